"""The sample: one image of a texture, as a square of the wanted size."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

MOST_SIZE = 4096
_LEAST_SIZE = 16  # below, nothing is left for the deepest layer of VGG16; patches need 10


def read_sample(path: Path, size: int, crop: int | None = None) -> Tensor:
    """The middle of an image as [3, size, size] float32, values 0 to 1. Grey images become colour, transparency white.

    Args:
        path: any picture that Pillow reads; of an animation, the first frame.
        size: side of the result, 16 to 4096.
        crop: side of the square that is cut out, in the image's own pixels; None takes the largest.

    Raises:
        ValueError: no such file, no picture, a damaged one, or numbers that do not fit it; one line that names the file
            or the option.
    """
    if not _LEAST_SIZE <= size <= MOST_SIZE:
        raise ValueError(f"size={size} is not allowed; give a whole number from {_LEAST_SIZE} to {MOST_SIZE}")
    image = _open(path)
    side = min(image.size) if crop is None else crop
    if not 1 <= side <= min(image.size):
        raise ValueError(
            f"crop={crop} does not fit {path}, which is {image.width} x {image.height} pixels; "
            f"give a whole number from 1 to {min(image.size)}"
        )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    pixels = np.array(square)
    if (pixels == pixels[0, 0]).all():
        raise ValueError(f"{path}: is of one colour, so there is no texture in it; give another --image or --crop")
    scaled = square.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1).float().div(255).contiguous()


def checksum(sample: Tensor) -> int:
    """Of the sample's pixels."""
    return zlib.crc32(sample.mul(255).round().byte().numpy().tobytes())


def _open(path: Path) -> Image.Image:
    """The image in RGB."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give one picture with --image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                image = file.convert("RGBA") if _is_plain(file) else _scaled_down(file)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file; give a picture with --image") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: is no picture that Pillow reads; give a PNG or JPEG with --image") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ValueError(f"{path}: has too many pixels; give a smaller picture with --image") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"{path}: is damaged ({reason}); give another picture with --image") from error
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _is_plain(image: Image.Image) -> bool:
    """Whether the pixels are bytes, or a palette's."""
    return not image.mode.startswith(("I", "F"))


def _scaled_down(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float greys as bytes: 16 bits by their range, others by the values that occur."""
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinite values")
    low, high = (0, 65535) if image.mode.startswith("I;16") else (values.min(), max(values.max(), values.min() + 1e-12))
    grey = ((values - low) / (high - low) * 255).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGBA")
