"""Reading images and label maps from NIfTI files, and writing results beside them.

Inside the task every volume is in canonical orientation: its axes run to the patient's right, front and top (RAS),
whatever order and direction the file stores. Predictions go back to the file's own orientation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ncafast.nifti import NiftiFile, VolumeError, by, open_nifti, read_voxels, try_open
from ncafast.tasks.mednca.geometry import Position, position_of
from ncafast.tasks.mednca.options import Geometry
from ncafast.utils.outputs import finished

Array = np.ndarray[Any, Any]
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]

LARGEST = 1e30  # more is a mark for "no value", and its differences overflow float32
_MOST_LABEL = 2**24 - 1  # float32 holds all whole numbers up to here


@dataclass(frozen=True, slots=True)
class Volume:
    """An image or label map in canonical orientation, and where it lies."""

    path: Path
    data: Array  # [C, X, Y, Z]: raw intensities float32, or label values int32
    position: Position

    @property
    def shape(self) -> Shape:
        """Voxels along X, Y, Z."""
        x, y, z = self.data.shape[1:]
        return x, y, z

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm along X, Y, Z."""
        return self.position.spacing

    @property
    def stored_shape(self) -> Shape:
        """Voxels along the axes as they are stored."""
        i, j, k = (self.shape[int(axis)] for axis in self.position.axes[:, 0])
        return i, j, k


def read_image(path: Path, channels: tuple[int, ...] = (0,), geometry: Geometry = "sform") -> Volume:
    """Read the chosen channels of a 2-D, 3-D or 4-D NIfTI image.

    Raises VolumeError for a file that is unreadable, corrupt, of another kind, has too few channels, or holds NaN or
    infinite voxels.
    """
    file = open_nifti(path)
    position = position_of(file, geometry)
    check_channels(file, channels)
    return Volume(path, _data(file, channels, position), position)


def check_channels(file: NiftiFile, channels: Sequence[int]) -> None:
    """Raise VolumeError unless a file has these channels."""
    if any(not 0 <= c < file.channels for c in channels) or not channels:
        have = "channel 0 only" if file.channels == 1 else f"channels 0 to {file.channels - 1}"
        raise VolumeError(f"{file.path}: has {have}, but {list(channels)} is wanted; give an image with these channels")


def read_label(path: Path, geometry: Geometry = "sform", position: Position | None = None) -> Volume:
    """Read a label map. ``data`` is [1, X, Y, Z] int32. Raises VolumeError as read_image, and for fractions.

    Args:
        path: of the file.
        geometry: what of its header says where it lies; see `position_of`.
        position: where it lies, whatever its header says; its voxels are taken by their index.
    """
    file = open_nifti(path)
    position = position or position_of(file, geometry)
    if file.channels > 1:
        raise VolumeError(
            f"{path}: is {len(file.header.get_data_shape())}-D with {file.channels} channels; "
            "a label map must be one 3-D volume of whole numbers"
        )
    data = _data(file, (0,), position)
    whole = np.round(data)
    fractions = np.abs(whole - data) > 1e-3  # less than that is the rounding of a scaled file
    if fractions.any():
        raise VolumeError(
            f"{path}: holds the value {data[fractions].flat[0]:g}; a label map holds whole numbers only "
            "(is it a probability map?)"
        )
    if np.abs(whole).max() > _MOST_LABEL:
        raise VolumeError(f"{path}: holds the value {np.abs(whole).max():g}; label values go up to {_MOST_LABEL}")
    return Volume(path, whole.astype(np.int32), position)


def write_map(path: Path, values: Array, like: Path, geometry: Geometry = "sform") -> None:
    """Write one number per voxel beside the image it belongs to. The file appears under its name only when complete.

    Args:
        path: of the new file.
        values: [X, Y, Z] in canonical orientation; whole numbers are label values from 0 to 255.
        like: the image. The file gets its orientation, affines, header geometry and spatial shape (3-D also where it is
            4-D), also those that `geometry` did not choose.
        geometry: what of the image's header said where its voxels lie when it was read.
    """
    source = open_nifti(like)
    is_label = values.dtype.kind in "biu"
    stored = position_of(source, geometry).to_stored(values.astype(np.uint8 if is_label else np.float32, copy=False))
    if stored.shape != source.shape:
        raise ValueError(f"values of shape {by(stored.shape)} do not fit {like} with {by(source.shape)} voxels")
    header = source.header.copy()
    header.set_data_dtype(stored.dtype)
    header.set_slope_inter(1.0, 0.0)
    header.set_intent("label" if is_label else "none")
    header.set_data_offset(0)  # behind the header's extensions, wherever that is
    header["cal_min"] = header["cal_max"] = 0
    if len(header.get_data_shape()) == 2:
        stored = stored[:, :, 0]
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    with finished(path) as scratch:
        nib.save(kind(stored, None, header), scratch)  # without an affine the header's stay as they are


def read_channels(path: Path) -> int | None:
    """Number of channels, from the header; None if it cannot be read."""
    file = try_open(path)
    return None if file is None else file.channels


def read_grid(path: Path, geometry: Geometry = "sform") -> tuple[Shape, Spacing] | None:
    """Voxels and their size in mm along the canonical axes, from the header; None if it cannot be read."""
    try:
        file = open_nifti(path)
        position = position_of(file, geometry)
    except VolumeError:
        return None
    return position.canonical(file.shape), position.spacing


def check_sides(path: Path, shape: Sequence[int], least: int) -> None:
    """Raise VolumeError unless every side has as many voxels as a 3-D model's perception needs."""
    if min(shape) < least:
        raise VolumeError(
            f"{path}: has {by(tuple(shape))} voxels, and this 3-D model needs {least} along each side; leave it out, "
            "or train with --dims 2, or with fewer levels, a smaller scale or smaller kernels"
        )


def _data(file: NiftiFile, channels: Sequence[int], position: Position) -> Array:
    """The chosen channels in canonical orientation, [C, X, Y, Z] float32."""
    try:
        stored = read_voxels(file, channels)
        bad = stored.size - sum(int((np.abs(plane) < LARGEST).sum()) for plane in stored.T)
        if bad:
            raise VolumeError(
                f"{file.path}: {bad} of {stored.size} voxels are NaN, infinite or beyond {LARGEST:g}; "
                "replace them, for example by 0"
            )
        return position.to_canonical(stored)
    except MemoryError as error:
        raise VolumeError(
            f"{file.path}: its {by(file.header.get_data_shape())} voxels do not fit into the memory that is free "
            f"({error}); shrink or crop it, or use a machine with more"
        ) from None
