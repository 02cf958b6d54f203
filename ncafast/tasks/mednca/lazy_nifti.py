"""A NIfTI image of any size: voxels stay on disk, states and labels are in files, until the label map is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.volumeutils import apply_read_scaling

from ncafast.nifti import NiftiFile, VolumeError, check_length, open_nifti, stored_chunks
from ncafast.tasks.mednca import pictures
from ncafast.tasks.mednca.geometry import Position, position_of
from ncafast.tasks.mednca.inference import Segmentation
from ncafast.tasks.mednca.lazy import LazySlices, Place
from ncafast.tasks.mednca.lazy_prediction import segment
from ncafast.tasks.mednca.model_file import TrainedModel, dims_of, least_sides
from ncafast.tasks.mednca.slices import scaled
from ncafast.tasks.mednca.volumes import check_channels, check_sides
from ncafast.volume import mapped

Array = np.ndarray[Any, Any]


class NiftiImage:
    """The voxels of a file that stay there; those of a compressed one in a scratch file.

    Args:
        file: an opened file.
        channels: that are read.
        position: where its voxels lie.
        folder: for the scratch file, which is gone once nothing holds it.

    Raises:
        VolumeError: the file is truncated or corrupt.
        OSError: the disk has too little room.
    """

    def __init__(self, file: NiftiFile, channels: Sequence[int], position: Position, folder: Path) -> None:
        self.path, self._file, self._position = file.path, file, position
        self.shape, self.spacing = position.canonical(file.shape), position.spacing
        self.grain = position.canonical((*file.shape[:2], 1))
        dtype = file.header.get_data_dtype()
        self._number = {channel: number for number, channel in enumerate(channels)}
        if file.compressed:
            size = math.prod(file.shape)
            flat = mapped.temporary(str(folder), (len(channels), size), dtype, len(channels) * size * dtype.itemsize)
            self._map = mapped.find("voxels", flat)
            for number, first, voxels in stored_chunks(file, channels):
                part = flat[number, first : first + voxels.size]
                part[:] = voxels
                self._give_back(part)
            self._voxels = flat.reshape(-1, *file.shape[::-1]).transpose(0, 3, 2, 1)
        else:
            check_length(file)
            stored = (file.channels, *file.shape[::-1])
            whole = np.memmap(file.path, dtype, "r", int(file.header.get_data_offset()), stored)
            self._map = mapped.find("voxels", whole)
            self._voxels = whole.transpose(0, 3, 2, 1)
            self._number = {channel: channel for channel in channels}

    def read(self, channel: int, place: Place) -> Array:
        """Voxels of a channel, [X, Y, Z] float32. Raises VolumeError."""
        try:
            if self._map is not None:
                self._map.check_length()
        except ValueError as error:
            raise VolumeError(f"{self.path}: {error}; copy it again") from None
        part = self._voxels[self._number[channel]][self._stored(place)]
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.array(apply_read_scaling(part, *self._file.header.get_slope_inter()), np.float32)
        self._give_back(part)
        return self._position.to_canonical(found[None])[0]

    def _stored(self, place: Place) -> tuple[slice, ...]:
        """A box of canonical axes along the axes as they are stored."""
        found = []
        for (axis, direction), cells in zip(self._position.axes, self._file.shape, strict=True):
            some = range(cells)[place[int(axis)]]
            if direction < 0:
                some = range(cells - 1 - some[-1], cells - some[0], some.step)
            found.append(slice(some.start, some.stop, some.step))
        return tuple(found)

    def _give_back(self, part: Array) -> None:
        if self._map is not None:
            self._map.give_back(part)


@dataclass(frozen=True)
class _Mapped:
    """Class numbers of all slices, [S, H, W], in a scratch file."""

    numbers: Array
    grain: tuple[int, int, int] = (1, 1, 1)

    def write(self, numbers: slice, rows: slice, columns: slice, classes: Array) -> None:
        self.numbers[numbers, rows, columns] = classes


def segment_file(
    trained: TrainedModel, path: Path, channels: tuple[int, ...] | None, *, seed: int, folder: Path, progress: bool
) -> Segmentation:
    """Segment a file as `inference.segment` does in enough memory, with one run.

    Of its images only the planes are there that a picture shows. Labels and images are in scratch files.

    Args:
        trained: the model.
        path: of the file.
        channels: of it; None takes those of training.
        seed: of the cells that fire.
        folder: for scratch files.
        progress: show a bar.

    Raises:
        VolumeError: the file cannot be used, or no tile fits into memory.
        OSError: the disk has too little room.
    """
    recipe = trained.spec.recipe
    recipe.check_case([path], channels)
    file, chosen = open_nifti(path), channels or recipe.channels
    check_channels(file, chosen)
    image = NiftiImage(file, chosen, position_of(file, recipe.geometry), folder)
    recipe.check_slices(path, image.shape)
    if dims_of(trained.model) == 3:
        check_sides(path, image.shape, least_sides(trained.model))
    slices = LazySlices.measured(image, recipe, chosen)
    count, _, *sides = slices.shape
    labels = _scratch(folder, (count, *sides), np.uint8)
    try:
        segment(trained, slices, _Mapped(labels), seed=seed, folder=folder, progress=progress)
    except MemoryError as error:
        raise VolumeError(f"{path}: {error}") from None
    spacing = recipe.slice_spacing(image.spacing)
    images = _scratch(folder, (count, 1, *sides), np.float16)
    inside = recipe.to_canonical(images[:, 0])
    for plane in pictures.choose(recipe, dims_of(trained.model), labels, spacing):
        cut = [slice(0, side) for side in image.shape]
        cut[pictures.AXES.index(plane.axis)] = slice(plane.index, plane.index + 1)
        place = (cut[0], cut[1], cut[2])
        inside[place] = scaled(image.read(chosen[0], place), slices.limits[0])
    return Segmentation(recipe, dims_of(trained.model), images, labels, spacing, None)


def _scratch(folder: Path, shape: tuple[int, ...], kind: type[np.generic]) -> Array:
    """Zeros in a file that is gone once nothing holds it."""
    dtype = np.dtype(kind)
    return mapped.temporary(str(folder), shape, dtype, math.prod(shape) * dtype.itemsize)
