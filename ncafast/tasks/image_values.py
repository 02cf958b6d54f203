"""Values of more than 8 bits, as the file has them, and how they become 8 bits.

Pillow holds greys of 16 and 32 bits and floats, but of colours with 16 bits it keeps the upper byte only. Decoding such
a file once more with the byte order exchanged gives the lower byte.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from ncafast.tasks.options import ValueRange

Array = np.ndarray[Any, Any]

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
_WHITE_IS_ZERO, _SIGNED = 0, 2
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_REMEDY = "scale the values, or choose --value-range image or percentile (where a model is trained)"


class ValueRangeError(ValueError):
    """Values that cannot become brightness; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Values:
    """The values of an image of more than 8 bits per channel."""

    levels: Array  # [H, W] or [H, W, 3] float64
    alpha: Array | None  # [H, W] uint8
    white: float
    """The upper end of the file format's range; the lower one is 0."""
    white_is_zero: bool = False
    assumed: bool = False
    """Whether the format leaves the range open, so that it was assumed."""

    def to_image(self, value_range: ValueRange) -> Image.Image:
        """8 bits per channel: L, RGB or RGBA. Raises ValueRangeError for values that the range does not hold."""
        if not np.isfinite(self.levels).all():
            raise ValueRangeError("holds NaN or infinite values; repair it or leave it out")
        scaled = _scaled(self.levels, *self._ends(value_range))
        image = Image.fromarray(255 - scaled if self.white_is_zero else scaled)
        if self.alpha is None:
            return image
        image = image.convert("RGBA")
        image.putalpha(Image.fromarray(self.alpha))
        return image

    def _ends(self, value_range: ValueRange) -> tuple[float, float]:
        """The values that become black and white."""
        low, high = float(self.levels.min()), float(self.levels.max())
        if value_range == "image":
            return low, high
        if value_range == "percentile":
            low, high = np.percentile(self.levels, (1, 99)).tolist()
            return low, high
        if low < 0 or high > self.white:
            raise ValueRangeError(
                f"holds values from {low:g} to {high:g} where 0 to {self.white:g} is expected; {_REMEDY}"
            )
        return 0.0, self.white


def read_values(file: ImageFile.ImageFile, again: Callable[[], ImageFile.ImageFile], colours: bool) -> Values | None:
    """The values of a file that Pillow has opened, or None if it has no more than 8 bits per channel.

    Args:
        file: as Pillow opened it; it is decoded here.
        again: opens the file anew.
        colours: whether to look for colours of 16 bits, too.

    Raises:
        ValueRangeError: signed values of 8 bits, which Pillow does not tell from unsigned ones.
    """
    tags = getattr(file, "tag_v2", {})
    signed = tuple(tags.get(_SAMPLE_FORMAT, ()))[:1] == (_SIGNED,)
    bits = tuple(tags.get(_BITS, ()))[:1]
    if file.mode in ("I", "F") or file.mode.startswith("I;"):
        inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        white, assumed = _white(file, bits, signed)
        file.load()
        levels = np.asarray(file).astype(np.float64)
        key = file.info.get("transparency")
        alpha = None if not isinstance(key, int) else np.where(levels == key, 0, 255).astype(np.uint8)
        return Values(levels, alpha, white, inverted, assumed)
    if signed and bits == (8,):
        raise ValueRangeError(
            "holds signed 8-bit integers, which Pillow would take for unsigned ones; save it with 16 bits"
        )
    return _colours(file, again) if colours else None


def _white(file: ImageFile.ImageFile, bits: tuple[int, ...], signed: bool) -> tuple[float, bool]:
    """The upper end of the range of greys, and whether it was assumed."""
    if file.mode == "F":
        return 1.0, False
    if bits and bits[0] <= 16:
        return 2.0 ** (bits[0] - signed) - 1, False
    return 65535.0, file.mode == "I" and file.format not in ("PNG", "PPM")  # which have no more than 16 bits


def _colours(file: ImageFile.ImageFile, again: Callable[[], ImageFile.ImageFile]) -> Values | None:
    """Colours of 16 bits, if the file has such in a layout that can be decoded byte by byte."""
    raw = _raw_mode(file)
    layout, _, order = raw.partition(";16")
    if layout not in ("RGB", "RGBA", "RGBX", "LA") or order not in _OTHER_ORDER:
        return None
    if layout == "LA":  # only PNG's, whose four bytes per pixel can be had at once
        pairs = np.asarray(_decoded(file, "RGBA")).astype(np.uint16)  # [H, W, 4]
        values = pairs[..., 0::2] << 8 | pairs[..., 1::2]
    else:
        upper = np.asarray(_decoded(file, raw)).astype(np.uint16)
        with again() as other:
            lower = np.asarray(_decoded(other, f"{layout};16{_OTHER_ORDER[order]}"))
        values = upper << 8 | lower  # [H, W, 3 or 4]
    levels = (values[..., 0] if layout == "LA" else values[..., :3]).astype(np.float64)
    alpha, key = None, file.info.get("transparency")
    if layout in ("RGBA", "LA"):
        alpha = _scaled(values[..., -1].astype(np.float64), 0.0, 65535.0)
    elif isinstance(key, tuple):
        alpha = np.where((levels == key).all(-1), 0, 255).astype(np.uint8)
    return Values(levels, alpha, 65535.0)


def _raw_mode(file: ImageFile.ImageFile) -> str:
    """How the pixels are stored, in Pillow's terms."""
    modes = {tile.args if isinstance(tile.args, str) else str((tile.args or ("",))[0]) for tile in file.tile}
    return modes.pop() if len(modes) == 1 else ""


def _decoded(file: ImageFile.ImageFile, raw: str) -> Image.Image:
    """The image, its pixels decoded as if they were stored in this raw mode."""
    file.tile = [
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *(tile.args or ())[1:])) for tile in file.tile
    ]
    file.load()
    return file


def _scaled(values: Array, low: float, high: float) -> Array:
    """uint8, 0 at `low` and below, 255 at `high` and above; all 0 if the two are the same."""
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    return ((values - low) * (255 / (high - low))).round().clip(0, 255).astype(np.uint8)
