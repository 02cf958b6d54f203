"""From pairs of files to pixels and metres in memory, divided into training and held-out images."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ncafast.tasks import image_pairs
from ncafast.tasks.cascade_job import Sides, load_sides
from ncafast.tasks.cascades import Array, with_statistics
from ncafast.tasks.depth.options import EvaluateConfig, TrainConfig
from ncafast.tasks.depth.recipe import Recipe, fitted
from ncafast.tasks.image_files import ENDINGS
from ncafast.tasks.image_labels import read_label_map
from ncafast.tasks.image_pairs import Pair, Pairs, Targets
from ncafast.tasks.images import ImageError, Reading, image_error

_ARRAYS = (".npy", ".npz")
_DEPTH = Targets(
    "depth map",
    "depth",
    ("depth", "depths", "depth_maps", "labels"),
    re.compile(r"[_-](depth|depths|disp)$", re.IGNORECASE),
    ("depth", "depth_map", "label"),
    (*ENDINGS, *_ARRAYS),
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


def read_depth(path: Path, reading: Reading, scale: float | None = None, most: float | None = None) -> Array:
    """Metres [H, W] float32, NaN where they are 0 or less, not finite, or above `most`. Raises ImageError."""
    if path.suffix.lower() in _ARRAYS:
        raw = _array(path)
        usual = 1.0 if raw.dtype.kind == "f" else 1e-3
    else:
        raw, usual = read_label_map(path, "numbers", reading), 1e-3
    metres = raw.astype(np.float32) * np.float32(usual if scale is None else scale)
    known = np.isfinite(metres) & (metres > 0) & (metres <= (np.inf if most is None else most))
    return np.where(known, metres, np.float32(np.nan))


def _array(path: Path) -> Array:
    """The only array of a file, [H, W] of numbers."""
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            found = [content] if isinstance(content, np.ndarray) else [content[name] for name in content.files]
    except FileNotFoundError:
        raise image_error(str(path), "there is no such file; correct the name or bring the file back") from None
    except Exception as error:  # numpy raises nearly every type there is on corrupt files
        what = " ".join(str(error).split())[:120]
        raise image_error(str(path), f"is no readable array ({what}); copy it anew or leave it out") from error
    arrays = [array.squeeze() for array in found]
    if len(arrays) != 1 or arrays[0].ndim != 2 or arrays[0].dtype.kind not in "iuf":
        shapes = ", ".join(f"{array.dtype} {list(array.shape)}" for array in arrays) or "nothing"
        raise image_error(str(path), f"holds {shapes}, and one array [H, W] of numbers is needed")
    return arrays[0]
