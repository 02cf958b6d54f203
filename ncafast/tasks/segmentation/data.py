"""From pairs of files to pixels in memory, divided into training and held-out images."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ncafast.tasks.cascade_job import Sides, load_sides
from ncafast.tasks.cascades import Array, with_statistics
from ncafast.tasks.image_pairs import Pair
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.segmentation.options import TrainConfig
from ncafast.tasks.segmentation.pairs import find_pairs
from ncafast.tasks.segmentation.recipe import Recipe
from ncafast.utils.progress import note
from ncafast.utils.texts import listed


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its class numbers."""

    name: str
    pixels: Array  # [h, w, 3] uint8
    labels: Array  # [h, w] uint8, 0 for the background
    others: tuple[str, ...] = ()
    """The first values of the mask that belong to no class."""

    @property
    def checksum(self) -> int:
        """Of the pixels and the labels."""
        return zlib.crc32(self.labels.tobytes(), zlib.crc32(self.pixels.tobytes(), self.pixels.shape[0]))


def load(config: TrainConfig) -> tuple[Sides[Sample], Recipe]:
    """The samples to train on and those held out, as the model sees them, and how they are read.

    Raises:
        ValueError: nothing is left to train on, or a class occurs nowhere in it.
    """
    recipe, reading = Recipe.of(config.classes, config.size, config.value_range), Reading.of(config)

    def read(pair: Pair) -> Sample:
        sample = read_pair(pair, recipe, reading)
        return replace(sample, pixels=recipe.shrunk(sample.pixels), labels=recipe.shrunk_target(sample.labels))

    sides = load_sides(config, find_pairs(config), reading, read)
    train, held_out, _ = sides
    _say_doubts((*train, *held_out))
    _require_classes(train, recipe)
    return sides, with_statistics(recipe, [sample.pixels for sample in train])


def read_pair(pair: Pair, recipe: Recipe, reading: Reading) -> Sample:
    """An image and its mask at their own size. Raises ImageError for what cannot be used."""
    pixels = recipe.read_image(pair.image, reading)
    labels, others = recipe.read_mask(pair.target, reading)
    if labels.shape != pixels.shape[:2]:
        have, want = (f"{array.shape[1]} x {array.shape[0]}" for array in (labels, pixels))
        raise ImageError(f"{pair.target}: has {have} pixels, and its image {want}; give a mask of the image's size")
    return Sample(pair.name, pixels, labels, tuple(others))


def _require_classes(train: Sequence[Sample], recipe: Recipe) -> None:
    """Raise ValueError if a class to learn occurs in none of the masks."""
    present = set().union(*(np.unique(sample.labels).tolist() for sample in train))
    for number, name in enumerate(recipe.names, start=1):
        if number in present:
            continue
        if not recipe.values:
            raise ValueError("no training mask is anything but black; give masks in which something is drawn")
        others = Counter(value for sample in train for value in sample.others)
        have = listed([value for value, _ in others.most_common()]) or "nothing else"
        raise ValueError(
            f"no training mask holds {recipe.values[number - 1]} ({name}); beside the other classes they hold {have}: "
            "choose --classes among these"
        )


def _say_doubts(samples: Sequence[Sample]) -> None:
    """What can be used, but was hardly meant, a line for each."""
    others = Counter(value for sample in samples for value in sample.others)
    if others:
        shown = listed([value for value, _ in others.most_common()])
        note(f"masks also hold {shown}, which is not among --classes and counts as background")
    empty = [sample.name for sample in samples if not sample.labels.any()]
    if empty:
        note(f"{len(empty)} of {len(samples)} masks hold no class at all, {empty[0]} first")
