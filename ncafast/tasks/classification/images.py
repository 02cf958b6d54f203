"""Reading one image file: any format Pillow knows, as a square of RGB pixels, or one line that says why not."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

Array = np.ndarray[Any, Any]

ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")


class ImageError(ValueError):
    """An image that cannot be used; the message names the file and what to do."""


def read_image(path: Path, size: int) -> Array:
    """[size, size, 3] uint8. Transparent pixels are white; grey values of more than 8 bits are scaled to their range.

    Raises ImageError for a file that is no image, truncated, or holds values that are not finite.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                file.load()
                return np.array(_rgb(file, path).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such file; correct the list or bring the file back") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder; give one image") from None
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError, Image.DecompressionBombWarning) as error:
        what = " ".join(str(error).split())[:120]
        raise ImageError(f"{path}: is no readable image or truncated ({what}); copy it anew or leave it out") from error


def resize_all(pixels: Array, size: int) -> Array:
    """[N, H, W, 3] uint8 -> [N, size, size, 3] uint8."""
    if pixels.shape[1:3] == (size, size):
        return pixels
    small = [np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.BILINEAR)) for p in pixels]
    return np.stack(small) if small else np.zeros((0, size, size, 3), np.uint8)


def _rgb(file: Image.Image, path: Path) -> Image.Image:
    if file.mode in ("I", "F") or file.mode.startswith("I;"):
        values = np.asarray(file, np.float64)
        if not np.isfinite(values).all():
            raise ImageError(f"{path}: holds values that are not finite; repair it or leave it out")
        low, high = values.min(), values.max()
        scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
        return Image.fromarray(scaled.round().astype(np.uint8)).convert("RGB")
    if "A" in file.getbands() or "transparency" in file.info:
        own = file.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", own.size, "white"), own).convert("RGB")
    return file.convert("RGB")
