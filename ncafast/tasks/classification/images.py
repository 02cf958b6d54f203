"""Images as this task takes them: a square of RGB pixels on white."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ncafast.tasks import images
from ncafast.tasks.images import Reading, on_white

Array = np.ndarray[Any, Any]


def read_image(path: Path, size: int, reading: Reading | None = None) -> Array:
    """[size, size, 3] uint8, with white behind what is transparent.

    Args:
        path: a file in any format that Pillow reads.
        size: side of the square that the image is shrunk or enlarged to, whatever its aspect ratio.
        reading: how values of more than 8 bits are scaled, and how many pixels are too many.

    Raises ImageError for a file that is no image, corrupt or too large.
    """
    image = on_white(images.read_image(path, reading)).convert("RGB")
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))


def resize_all(pixels: Array, size: int) -> Array:
    """[N, H, W, 3] uint8 -> [N, size, size, 3] uint8."""
    if pixels.shape[1:3] == (size, size):
        return pixels
    small = [np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.BILINEAR)) for p in pixels]
    return np.stack(small) if small else np.zeros((0, size, size, 3), np.uint8)
