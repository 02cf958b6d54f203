"""From pairs of files to pixels and metres in memory, divided into training and held-out images."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ncafast.tasks import image_pairs
from ncafast.tasks.cascade_job import Sides, load_sides
from ncafast.tasks.cascades import Array, with_statistics
from ncafast.tasks.depth.maps import ARRAYS, read_depth
from ncafast.tasks.depth.options import EvaluateConfig, TrainConfig
from ncafast.tasks.depth.recipe import Recipe, fitted
from ncafast.tasks.image_files import ENDINGS
from ncafast.tasks.image_pairs import Pair, Pairs, Targets
from ncafast.tasks.images import ImageError, Reading

_DEPTH = Targets(
    "depth map",
    "depth",
    ("depth", "depths", "depth_maps", "labels"),
    re.compile(r"[_-](depth|depths|disp)$", re.IGNORECASE),
    ("depth", "depth_map", "label"),
    (*ENDINGS, *ARRAYS),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its depth."""

    name: str
    pixels: Array  # [h, w, 3] uint8
    depth: Array  # [h, w] float32 metres, NaN where it is unknown

    @property
    def checksum(self) -> int:
        """Of the pixels and the depth."""
        return zlib.crc32(self.depth.tobytes(), zlib.crc32(self.pixels.tobytes(), self.pixels.shape[0]))


def find_pairs(options: TrainConfig | EvaluateConfig) -> Pairs:
    """The images and depth maps that options name; see `ncafast.tasks.image_pairs.find_pairs`."""
    return image_pairs.find_pairs(options.data, options.images, options.depth, _DEPTH)


def load(config: TrainConfig) -> tuple[Sides[Sample], Recipe]:
    """The samples to train on and those held out, as the model sees them, and how they are read.

    Raises:
        ValueError: nothing is left to train on, or no depth is known.
    """
    recipe, reading = Recipe(size=config.size, value_range=config.value_range), Reading.of(config)

    def read(pair: Pair) -> Sample:
        sample = read_pair(pair, recipe, reading, config)
        depth = recipe.shrunk_target(sample.depth)
        if not np.isfinite(depth).any():
            raise ImageError(f"{pair.target}: has no pixel of known depth at --size {config.size}; leave it out")
        return replace(sample, pixels=recipe.shrunk(sample.pixels), depth=depth)

    sides = load_sides(config, find_pairs(config), reading, read)
    train, _, _ = sides
    pixels = [sample.pixels for sample in train]
    recipe = with_statistics(recipe, pixels)
    known: dict[str, Any] = fitted(recipe, pixels, [sample.depth for sample in train])
    return sides, replace(recipe, **known)


def read_pair(pair: Pair, recipe: Recipe, reading: Reading, options: TrainConfig | EvaluateConfig) -> Sample:
    """An image and its depth at their own size. Raises ImageError for what cannot be used."""
    pixels = recipe.read_image(pair.image, reading)
    depth = read_depth(pair.target, reading, options.depth_scale, options.max_depth)
    if depth.shape != pixels.shape[:2]:
        have, want = (f"{array.shape[1]} x {array.shape[0]}" for array in (depth, pixels))
        raise ImageError(f"{pair.target}: has {have} pixels, and its image {want}; give a map of the image's size")
    if not np.isfinite(depth).any():
        raise ImageError(f"{pair.target}: has no pixel of known depth (see --depth-scale and --max-depth)")
    return Sample(pair.name, pixels, depth)
