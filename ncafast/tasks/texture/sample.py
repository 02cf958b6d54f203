"""The sample: one image of a texture, as a square of the wanted size."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ncafast.tasks.images import Reading, on_white, read_image

MOST_SIZE = 4096
_LEAST_SIZE = 16  # below, nothing is left for the deepest layer of VGG16; patches need 10


def read_sample(path: Path, size: int, crop: int | None = None, reading: Reading | None = None) -> Tensor:
    """The middle of an image as [3, size, size] float32, values 0 to 1. Grey images become colour, transparency white.

    Args:
        path: an image in any format that Pillow reads; of an animation, the first frame, and a note says so.
        size: side of the result, 16 to 4096.
        crop: side of the square that is cut out, in the image's own pixels; None takes the largest.
        reading: how values of more than 8 bits are scaled, and how many pixels are too many.

    Raises:
        ValueError: no such file, no image, a corrupt one, or numbers that do not fit it; one line that names the file
            or the option.
    """
    if not _LEAST_SIZE <= size <= MOST_SIZE:
        raise ValueError(f"size={size} is not allowed; give a whole number from {_LEAST_SIZE} to {MOST_SIZE}")
    reading = reading or Reading()
    image = on_white(read_image(path, reading)).convert("RGB")
    side = min(image.size) if crop is None else crop
    if not 1 <= side <= min(image.size):
        raise ValueError(
            f"crop={crop} does not fit {path}, which is {image.width} x {image.height} pixels; "
            f"give a whole number from 1 to {min(image.size)}"
        )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    pixels = np.asarray(image)[top : top + side, left : left + side]  # Image.crop has a limit of its own
    if (pixels == pixels[0, 0]).all():
        raise ValueError(f"{path}: is of one colour, so there is no texture in it; give another --image or --crop")
    reading.notes.say()
    scaled = Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1).float().div(255).contiguous()


def checksum(sample: Tensor) -> int:
    """Of the sample's pixels."""
    return zlib.crc32(sample.mul(255).round().byte().numpy().tobytes())
