"""Depth maps as files: grey images, and NumPy's arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ncafast.tasks.cascades import Array
from ncafast.tasks.images import Reading, decoding, image_error, open_file, upright

ARRAYS = (".npy", ".npz")


def read_depth(path: Path, reading: Reading, scale: float | None = None, most: float | None = None) -> Array:
    """The distance of every pixel.

    Args:
        path: a grey image that Pillow reads, or an array.
        reading: its limit of pixels and its notes are used.
        scale: metres for each step; None means 0.001 for whole numbers and 1 for floats.
        most: metres beyond which a pixel is unknown.

    Returns:
        Metres [H, W] float32; NaN where they are 0 or less, not finite, or above `most`.

    Raises:
        ImageError: the file cannot be read, or holds no depth.
    """
    raw = _array(path) if path.suffix.lower() in ARRAYS else _grey(path, reading)
    usual = 1.0 if raw.dtype.kind == "f" else 1e-3
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is unknown, too
        metres = raw.astype(np.float32) * np.float32(usual if scale is None else scale)
    known = np.isfinite(metres) & (metres > 0) & (metres <= (np.inf if most is None else most))
    return np.where(known, metres, np.float32(np.nan))


def _grey(path: Path, reading: Reading) -> Array:
    """The grey levels [H, W] of an image: whole numbers, or the floats of a TIFF file."""
    name = str(path)
    with open_file(path) as file, decoding(file, name, reading) as opened:
        opened.load()
        if opened.format == "JPEG":
            raise image_error(name, "a JPEG's values are not exact; save the depth map as PNG of 16 bits or as .npy")
        mode = opened.mode
        if mode not in ("L", "F", "RGB") and not mode.startswith("I"):
            raise image_error(name, f"is of mode {mode}, which holds no depth; save it as grey PNG of 16 bits")
        levels = np.asarray(upright(opened, opened.copy(), name, reading))
    if levels.ndim == 2:
        return levels
    if (levels != levels[..., :1]).any():
        raise image_error(name, "holds colours, which are no depth; give the map whose grey levels are distances")
    return levels[..., 0]


def _array(path: Path) -> Array:
    """The only array of a file, [H, W] of numbers, with further axes of size 1 around these at most."""
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            found = [content] if isinstance(content, np.ndarray) else [content[name] for name in content.files]
    except FileNotFoundError:
        raise image_error(str(path), "there is no such file; correct the name or bring the file back") from None
    except Exception as error:  # numpy raises nearly every type there is on corrupt files
        what = " ".join(str(error).split())[:120]
        raise image_error(str(path), f"is no readable array ({what}); copy it anew or leave it out") from error
    arrays = [_plane(array) for array in found]
    if len(arrays) != 1 or arrays[0].ndim != 2 or not arrays[0].size or arrays[0].dtype.kind not in "iuf":
        shapes = ", ".join(f"{array.dtype} {list(array.shape)}" for array in found) or "nothing"
        raise image_error(str(path), f"holds {shapes}, and one array [H, W] of numbers is needed")
    return arrays[0]


def _plane(array: Array) -> Array:
    """Without first and last axes of size 1, as far as two axes are left."""
    while array.ndim > 2 and 1 in (array.shape[0], array.shape[-1]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    return array
