"""Tile sizes measured on the user's GPU, and the file that keeps them.

Nothing is measured unless it was asked for (`tune`, or NCAFAST_TUNE=1): a first call takes the sizes in the file if
there are any for its GPU and shape, else the fixed ones of `sizes`. While tuning, each kernel that a rollout meets
without an entry is timed with a few sizes around the fixed ones, and the quickest is written down.

Rollouts are bit-equal as long as the file stays as it is: other tiles take sums in another order.
"""

from __future__ import annotations

import datetime
import json
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncafast.backends import cache
from ncafast.backends.triton_kernels import sizes

_SURE = 0.97  # of the fixed sizes' time: what gains less is within the noise

_lock = threading.Lock()
_tuning = False
_read: tuple[Path, dict[str, Any]] | None = None


@contextmanager
def tune() -> Iterator[None]:
    """Measure the tile sizes of what runs inside the `with` block; see the module. NCAFAST_TUNE=1 does the same."""
    global _tuning
    before, _tuning = _tuning, True
    try:
        yield
    finally:
        _tuning = before


def wanted() -> bool:
    """Whether kernels without an entry are to be timed."""
    return _tuning or os.environ.get("NCAFAST_TUNE") == "1"


def file() -> Path:
    """Where measured sizes are kept: `triton-tiles.json` in NCAFAST_CACHE, else in the user's cache folder."""
    return cache.folder() / "triton-tiles.json"


def gpu(device: torch.device) -> str:
    """What measured sizes hold for besides the shape: the GPU and the compiler."""
    import triton

    name = "interpreter" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return f"{name}, Triton {triton.__version__}"


def known(device: torch.device, kernel: str, fixed: sizes.Tiles) -> sizes.Tiles | None:
    """The measured sizes of a kernel (its name and all that its speed hangs on), or None.

    An entry that is none of those tried, of an edited file or another version, does not count.
    """
    entry = _entries().get(gpu(device), {}).get(kernel)
    tried = (fixed, *sizes.around(fixed)) if isinstance(entry, dict) else ()
    return next(
        (tiles for tiles in tried if all(entry.get(key) == size for key, size in tiles._asdict().items())), None
    )


def measure(
    device: torch.device,
    kernel: str,
    fixed: sizes.Tiles,
    run: Callable[[sizes.Tiles], None],
    sums: Sequence[Tensor],
) -> sizes.Tiles:
    """Time `run` with the fixed sizes and those around them; the quickest is kept in the file.

    Args:
        device: where it runs.
        kernel: its name and all that its speed hangs on.
        fixed: the sizes that it would have.
        run: launches it. It may be called any number of times.
        sums: tensors that it adds to; they are left as they were.
    """
    before = [total.clone() for total in sums]
    times: dict[sizes.Tiles, float] = {}
    for tiles in (fixed, *sizes.around(fixed)):
        try:
            times[tiles] = clock(lambda tiles=tiles: run(tiles))  # type: ignore[misc]
        except Exception as error:  # needs more shared memory or registers than there are, each with its own exception
            if tiles == fixed:
                raise RuntimeError(f"the fixed tile sizes of {kernel} do not run: {error}") from error
    for total, old in zip(sums, before, strict=True):
        total.copy_(old)
    quickest = min(times, key=lambda tiles: times[tiles])
    chosen = quickest if times[quickest] < _SURE * times[fixed] else fixed
    _write(device, kernel, chosen, times[chosen], times[fixed])
    return chosen


def clock(run: Callable[[], None]) -> float:
    """Median microseconds of a launch on the GPU."""
    from triton.testing import do_bench

    return 1e3 * float(do_bench(run, warmup=5, rep=20, return_mode="median"))


def _entries() -> dict[str, Any]:
    global _read
    path = file()
    if _read is None or _read[0] != path:
        _read = path, _load(path)
    return _read[1]


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        warnings.warn(f"{path}: tile sizes cannot be read ({error}); the fixed ones are used", stacklevel=2)
        return {}
    return found if isinstance(found, dict) and all(isinstance(part, dict) for part in found.values()) else {}


def _write(device: torch.device, kernel: str, chosen: sizes.Tiles, time: float, fixed_time: float) -> None:
    """Add an entry to what the file holds by now, other processes' entries included, and replace it at once."""
    global _read
    entry = chosen._asdict() | {
        "us": round(time, 2),
        "fixed_us": round(fixed_time, 2),
        "date": datetime.date.today().isoformat(),
    }
    path = file()
    with _lock:
        entries = _load(path)
        entries.setdefault(gpu(device), {})[kernel] = entry
        _read = path, entries
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".json", delete=False) as new:
                json.dump(entries, new, indent=1, sort_keys=True)
            os.replace(new.name, path)
        except OSError as error:
            warnings.warn(f"{path}: tile sizes cannot be kept ({error}); they hold for this process", stacklevel=2)
