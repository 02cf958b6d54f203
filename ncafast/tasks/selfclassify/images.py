"""Images of single digits, in the form of MNIST's: light ink on black, strokes as wide as those trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ncafast.tasks import images
from ncafast.tasks.images import ImageError, Reading, on_white
from ncafast.tasks.selfclassify.states import ink

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm")
_MOST = 1024  # cells along a side


def read_digit(
    path: Path,
    *,
    size: int = 28,
    tone: Literal["auto", "light", "dark"] = "auto",
    reading: Reading | None = None,
) -> Tensor:
    """One image as [H, W] float32 from 0 to 1, its ink light.

    Args:
        path: of any format that Pillow reads; what is transparent counts as background.
        size: cells along the longer side, to which larger images are scaled down; 0 for none.
        tone: whether the ink is lighter or darker than the background; auto takes the edge for background.
        reading: how values of more than 8 bits are scaled, and how many pixels are too many.

    Raises:
        ImageError: unreadable, or nothing to see.
    """
    page = on_white(images.read_image(path, reading)).convert("L")
    grey = np.asarray(page, np.float32) / 255  # [H, W]
    light = tone == "light" or (tone == "auto" and np.median(_edge(grey)) < 0.5)
    grey = grey if light else 1 - grey
    if size and max(grey.shape) > size:
        factor = size / max(grey.shape)
        cells = tuple(max(1, round(side * factor)) for side in grey.shape[::-1])
        grey = np.asarray(Image.fromarray(grey).resize(cells, Image.Resampling.BOX))
    if max(grey.shape) > _MOST:
        raise ImageError(f"{path}: is {grey.shape[1]} x {grey.shape[0]} pixels, more than {_MOST}; give --size 28")
    image = torch.from_numpy(np.clip(grey, 0, 1).astype(np.float32))
    if not ink(image).any():
        raise ImageError(f"{path}: shows no ink; see --ink, or check that the file is the right one")
    return image


def _edge(grey: np.ndarray) -> np.ndarray:
    return np.concatenate((grey[0], grey[-1], grey[:, 0], grey[:, -1]))
