"""The options of every command that reads images. The text under a field is its help text. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ncafast.utils.renamed import Renamed

ValueRange = Literal["format", "image", "percentile"]
MAX_PIXELS = 89_478_485  # Pillow's own limit: 256 MiB of RGB


@dataclass(kw_only=True)
class ImageLimit(Renamed):
    """What every command that reads images takes."""

    max_pixels: int = MAX_PIXELS
    """Images with more pixels (width times height) are refused, or left out of a data set. Reading one takes about 4 to
    20 bytes of memory per pixel."""


@dataclass(kw_only=True)
class ImageOptions(ImageLimit):
    """What commands take that choose how values are read, and do not follow a model's training in it."""

    value_range: ValueRange = "format"
    """How values of more than 8 bits become brightness: format, black and white are the ends of the file format's
    range (16 bits: 0 to 65535; floats: 0 to 1); image, each image's lowest and highest value; percentile, each image's
    1st and 99th percentile. Images of 8 bits are never scaled."""
