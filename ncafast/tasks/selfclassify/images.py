"""Images of single digits, in the form of MNIST's: light ink on black, strokes as wide as those trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ncafast.tasks import images
from ncafast.tasks.image_hints import left_out
from ncafast.tasks.image_notes import Notes
from ncafast.tasks.images import ImageError, Reading, on_white
from ncafast.tasks.selfclassify.states import ink
from ncafast.utils.progress import say

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm")
_MOST = 1024  # cells along a side


def list_images(source: Path) -> list[Path]:
    """The image, or those of the folder in order of their names. Raises ImageError if there is none."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ImageError(f"{source}: there is no such file or folder; give an image or a folder of images with --input")
    everything = sorted(path for path in source.iterdir() if path.is_file())
    found = [path for path in everything if path.suffix.lower() in _ENDINGS]
    note = left_out(source, everything, _ENDINGS)
    if note:
        say(note)
    if not found:
        raise ImageError(f"{source}: holds no image ({', '.join(_ENDINGS)}); give another folder with --input")
    return found


def read_digit(
    path: Path,
    *,
    size: int = 28,
    tone: Literal["auto", "light", "dark"] = "auto",
    reading: Reading | None = None,
    notes: Notes | None = None,
) -> Tensor:
    """One image as [H, W] float32 from 0 to 1, its ink light.

    Args:
        path: of any format that Pillow reads; what is transparent counts as background.
        size: cells along the longer side, to which larger images are scaled down; 0 for none.
        tone: whether the ink is lighter or darker than the background; auto takes the edge for background.
        reading: how values of more than 8 bits are scaled, and how many pixels are too many.
        notes: collects what a user should know of how it was read.

    Raises:
        ImageError: unreadable, or nothing to see.
    """
    page = on_white(images.read_image(path, reading, notes)).convert("L")
    grey = np.asarray(page, np.float32) / 255  # [H, W]
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


def _edge(grey: np.ndarray) -> np.ndarray:
    return np.concatenate((grey[0], grey[-1], grey[:, 0], grey[:, -1]))
