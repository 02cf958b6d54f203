"""An image that is read and segmented box by box: slices as a model sees them, and labels written where they belong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ncafast.nifti import VolumeError
from ncafast.tasks.mednca.percentiles import percentiles
from ncafast.tasks.mednca.slices import Recipe, scaled, without_contrast
from ncafast.tasks.mednca.volumes import LARGEST

Numbers = np.ndarray[Any, Any]
Place = tuple[slice, slice, slice]

_AT_ONCE = 2**24  # voxels that are read together where all are looked at


class LazyImage(Protocol):
    """An image in canonical orientation whose voxels are left where they are."""

    @property
    def path(self) -> Path:
        """Of the file or store."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along X, Y, Z."""

    @property
    def grain(self) -> tuple[int, int, int]:
        """Voxels that are stored together, along X, Y, Z."""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along X, Y, Z in mm."""

    def read(self, channel: int, place: Place) -> Numbers:
        """Voxels of a channel, [X, Y, Z] float32. Raises VolumeError."""


@dataclass(frozen=True)
class LazySlices:
    """Slices of an image as a model sees them, [S, C, H, W] float16, read by slices of all four axes.

    Attributes:
        image: what is read.
        recipe: of the model.
        channels: of the image.
        limits: per channel the intensities that become 0 and 1; None where all voxels are 0.
        numbers: of the slices.
    """

    image: LazyImage
    recipe: Recipe
    channels: tuple[int, ...]
    limits: tuple[tuple[np.float32, ...] | None, ...]
    numbers: range

    @classmethod
    def measured(cls, image: LazyImage, recipe: Recipe, channels: tuple[int, ...]) -> LazySlices:
        """All slices of an image, which is read twice for its percentiles. Raises VolumeError."""
        limits = [percentiles(partial(_inside, image, channel), recipe.percentiles) for channel in channels]
        if all(pair is None or pair[0] == pair[1] for pair in limits):
            raise without_contrast(image.path)
        return cls(image, recipe, channels, tuple(limits), range(image.shape[recipe.slice_axis]))

    def of(self, numbers: range) -> LazySlices:
        """Some of the slices."""
        return replace(self, numbers=numbers)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """S, C, H, W."""
        height, width = (side for axis, side in enumerate(self.image.shape) if axis != self.recipe.slice_axis)
        return len(self.numbers), len(self.channels), height, width

    def __getitem__(self, place: tuple[slice, ...]) -> Numbers:
        """[s, C, h, w] of (slices, all channels, rows, columns)."""
        numbers, _, rows, columns = place
        some = self.numbers[numbers]
        where = place_of(slice(some.start, some.stop, some.step), rows, columns, self.recipe)
        found = []
        for channel, limits in zip(self.channels, self.limits, strict=True):
            values = scaled(self.image.read(channel, where), limits)
            found.append(np.moveaxis(values, self.recipe.slice_axis, 0).astype(np.float16))
        return np.stack(found, 1)


def place_of(numbers: slice, rows: slice, columns: slice, recipe: Recipe) -> Place:
    """Where cells of slices are in a volume, along X, Y, Z."""
    where = [rows, columns]
    where.insert(recipe.slice_axis, numbers)
    x, y, z = where
    return x, y, z


def _inside(image: LazyImage, channel: int) -> Iterator[Numbers]:
    """The voxels of a channel that are not 0, part by part."""
    for place in pieces(image.shape, image.grain):
        voxels = image.read(channel, place)
        bad = voxels.size - np.count_nonzero(np.abs(voxels) < LARGEST)
        if bad:
            raise VolumeError(
                f"{image.path}: {bad} of its voxels near {[part.start for part in place]} are NaN, infinite or beyond "
                f"{LARGEST:g}; replace them, for example by 0"
            )
        yield voxels[voxels != 0]


def pieces(shape: Sequence[int], grain: Sequence[int]) -> Iterator[Place]:
    """Parts of a grid of `_AT_ONCE` voxels, of whole chunks where these are smaller."""
    size = [min(side, cells) for side, cells in zip(shape, grain, strict=True)]
    for axis in reversed(range(3)):
        times = max(1, _AT_ONCE // math.prod(size))
        size[axis] = min(shape[axis], size[axis] * times)
    for box in itertools.product(*(range(0, side, cells) for side, cells in zip(shape, size, strict=True))):
        corners = zip(box, size, shape, strict=True)
        x, y, z = (slice(start, min(start + cells, side)) for start, cells, side in corners)
        yield x, y, z
