"""Images of single digits, in the form of MNIST's: light ink on black, strokes as wide as those trained on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ncafast.tasks.selfclassify.states import ink

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm")
_MOST = 1024  # cells along a side


class ImageError(ValueError):
    """An image that cannot be classified; the message names it and what to do."""


def list_images(place: Path) -> list[Path]:
    """The image, or those of the folder in order of their names. Raises ImageError if there is none."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise ImageError(f"{place}: there is no such file or folder; give an image or a folder of images with --input")
    found = sorted(path for path in place.iterdir() if path.suffix.lower() in _ENDINGS and path.is_file())
    if not found:
        raise ImageError(f"{place}: holds no image ({', '.join(_ENDINGS)}); give another folder with --input")
    return found


def read_digit(path: Path, *, size: int = 28, tone: Literal["auto", "light", "dark"] = "auto") -> Tensor:
    """One image as [H, W] float32 from 0 to 1, its ink light.

    Args:
        path: of any format that Pillow reads; what is transparent counts as background.
        size: cells along the longer side, to which larger images are scaled down; 0 for none.
        tone: whether the ink is lighter or darker than the background; auto takes the edge for background.

    Raises:
        ImageError: unreadable, or nothing to see.
    """
    grey = _grey(path)
    light = tone == "light" or (tone == "auto" and np.median(_edge(grey)) < 0.5)
    seen = grey if light else 1 - grey
    if size and max(seen.shape) > size:
        factor = size / max(seen.shape)
        cells = tuple(max(1, round(side * factor)) for side in seen.shape[::-1])
        seen = np.asarray(Image.fromarray(seen).resize(cells, Image.Resampling.BOX))
    if max(seen.shape) > _MOST:
        raise ImageError(f"{path}: is {seen.shape[1]} x {seen.shape[0]} pixels, more than {_MOST}; give --size 28")
    image = torch.from_numpy(np.clip(seen, 0, 1).astype(np.float32))
    if not ink(image).any():
        raise ImageError(f"{path}: shows no ink; see --ink, or check that the file is the right one")
    return image


def _grey(path: Path) -> np.ndarray:
    """[H, W] float32 from 0 to 1."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.has_transparency_data:
                    page = Image.new("RGBA", image.size, "white")
                    page.alpha_composite(image.convert("RGBA"))
                    return np.asarray(page.convert("L"), np.float32) / 255
                if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more: no fixed white
                    values = np.asarray(image, np.float32)
                    return (values - values.min()) / max(float(np.ptp(values)), 1e-6)
                return np.asarray(image.convert("L"), np.float32) / 255
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: is no image, or one of a format that Pillow does not read; give a PNG") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path}: is too large an image ({error}); scale it down first") from error
    except (OSError, SyntaxError, ValueError) as error:  # a damaged PNG raises any of them
        raise ImageError(f"{path}: cannot be read ({error}); the file may be damaged or incomplete") from error


def _edge(grey: np.ndarray) -> np.ndarray:
    return np.concatenate((grey[0], grey[-1], grey[:, 0], grey[:, -1]))
