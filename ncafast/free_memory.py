"""Bytes that this process may still take on a device: what is free, and limits of cgroups, of the shell, of its own."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from ncafast import native

F = TypeVar("F", bound=Callable[..., Any])

SKIP = "NCAFAST_MEMORY_CHECK"  # 0: needs are not compared with what is free
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_ROOT = Path("/")
_VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes"  # of cgroups
_NO_LIMIT = 2**60  # cgroup v1 writes a number near 2**63 where there is none
_limit: int | None = None  # of this process, see `limited`


class Free(NamedTuple):
    """How many bytes are free, and what sets that number."""

    bytes: int
    by: str


def parse_size(text: str) -> int:
    """Bytes of a size such as 6GB, 512MB, 1.5GiB or 4096; kB, MB, GB, TB are powers of 1000, KiB to TiB of 1024.

    Raises:
        ValueError: it is no size above 0.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMGT]I?)?B?\s*", text.upper())
    size = int(float(found[1]) * _UNITS[found[2] or ""]) if found else 0
    if size < 1:
        raise ValueError(f"memory_limit={text!r} is not allowed; give a size such as 6GB, 512MB or 1.5GiB")
    return size


def size_text(count: float) -> str:
    """A number of bytes as text, such as 6.1 GB."""
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size or unit == "MB":
            break
    return f"{count / size:.{0 if count >= 100 * size else 1}f} {unit}"


@contextmanager
def limited(limit: int | None) -> Iterator[None]:
    """Inside, this process counts as having no more memory than so many bytes in all, and keeps none of it for later
    calls; None changes nothing."""
    global _limit
    if limit is None:
        yield
        return
    before, _limit = _limit, limit
    kept = native.keep_memory(0)
    try:
        yield
    finally:
        native.keep_memory(kept)
        _limit = before


def limited_by_options(command: F) -> F:
    """A command `(task, options)` that keeps to `options.memory_limit`, a size as text, where options have one."""

    @functools.wraps(command)
    def run(task: Any, options: Any) -> Any:
        size = getattr(options, "memory_limit", None)
        with limited(None if size is None else parse_size(size)):
            return command(task, options)

    return run  # type: ignore[return-value]


def free_memory(device: torch.device) -> Free | None:
    """What this process may still take; None where that is not known, or `NCAFAST_MEMORY_CHECK` is 0.

    On the CPU: the least of what the system has available (swap included), what the memory limits of the process's
    cgroups leave (v1 and v2), what the limit of its address space leaves, and what `limited` leaves. On CUDA: what the
    driver and PyTorch's cache have, and what `limited` leaves of what the process may hold there.
    """
    if os.environ.get(SKIP) == "0":
        return None
    if device.type == "cuda":
        return _cuda(device)
    if device.type != "cpu":
        return None
    ways = (_system(), *_cgroups(), _address_space(), _own(_resident()))
    return min(filter(None, ways), default=None)


def held_memory(device: torch.device) -> int | None:
    """What this process holds of a limit on it; None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _resident() if device.type == "cpu" else None


def require(count: int, doing: str, fits: str = "", device: torch.device | None = None) -> None:
    """Raise MemoryError, one line, if something needs more bytes than are free; `fits` says what to do then."""
    free = free_memory(device or torch.device("cpu"))
    if free is not None and count > free.bytes:
        raise MemoryError(
            f"{doing} needs {size_text(count)}, and {size_text(free.bytes)} is {free.by}{fits and '; '}{fits}"
        )


def _cuda(device: torch.device) -> Free | None:
    if torch.cuda.is_current_stream_capturing():
        return None
    held = torch.cuda.memory_allocated(device)
    free, _ = torch.cuda.mem_get_info(device)
    ways = (Free(free + torch.cuda.memory_reserved(device) - held, f"free on {device}"), _own(held))
    return min(filter(None, ways))


def _own(held: int | None) -> Free | None:
    return None if _limit is None or held is None else Free(max(_limit - held, 0), f"left of {size_text(_limit)}")


def _resident() -> int | None:
    """Bytes of this process that are in memory."""
    pages = _numbers(_ROOT / "proc/self/statm")
    return pages[1] * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else None


def _system() -> Free | None:
    """MemAvailable is what can be had without swapping; before swap is full nothing is killed."""
    kilobytes = _table(_ROOT / "proc/meminfo", 1024)
    if "MemAvailable:" not in kilobytes:
        return None
    return Free(kilobytes["MemAvailable:"] + kilobytes.get("SwapFree:", 0), "available")


def _cgroups() -> Iterator[Free]:
    """What every memory limit on this process leaves; files in the page cache count as free, since the kernel drops
    them first."""
    for folder, version in _limited_folders(_ROOT):
        names = ("memory.max", "memory.current") if version == 2 else _VERSION_1
        most, used = (_numbers(folder / name) for name in names)
        if most and used and most[0] < _NO_LIMIT:
            stat = _table(folder / "memory.stat")
            total = "" if version == 2 else "total_"
            cached = sum(stat.get(f"{total}{kind}_file", 0) for kind in ("active", "inactive"))
            yield Free(max(most[0] - used[0] + cached, 0), "left in its cgroup")


@functools.lru_cache(maxsize=1)
def _limited_folders(root: Path) -> list[tuple[Path, int]]:
    """Folders of the process's own cgroup and those around it that may have a limit, with the version of cgroups."""
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = 1 if controllers else 2
        top = root / "sys/fs/cgroup" / ("memory" if version == 1 else "")
        inner = top / path.lstrip("/")
        around = [folder for folder in (inner, *inner.parents) if folder.is_relative_to(top)]
        limit = "memory.max" if version == 2 else _VERSION_1[0]
        found += [(folder, version) for folder in around if (folder / limit).exists()]
    return found


def _address_space() -> Free | None:
    """What `ulimit -v` leaves."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _numbers(_ROOT / "proc/self/statm")
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return Free(max(limit - pages[0] * os.sysconf("SC_PAGE_SIZE"), 0), "left of its address space")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _numbers(path: Path) -> list[int]:
    """The whole numbers of the first line; none where the file is not there, or says "max"."""
    first = (_lines(path) or [""])[0].split()
    return [int(word) for word in first] if all(word.isdecimal() for word in first) else []


def _table(path: Path, unit: int = 1) -> dict[str, int]:
    """Lines of a name and a number."""
    rows = (line.split() for line in _lines(path))
    return {row[0]: unit * int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}
