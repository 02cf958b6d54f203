"""Reading images and label maps from NIfTI files, and whether they fit each other.

Inside the task every volume is in canonical orientation: its axes run to the patient's right, front
and top (RAS), whatever order and direction the file stores. Predictions go back to the file's own
orientation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import orientations

from ncafast.tasks.mednca.geometry import place_of
from ncafast.tasks.mednca.nifti import VolumeError, by, count_channels, open_nifti, read_voxels, spatial_shape

Array = np.ndarray[Any, Any]

_LARGEST = 1e30  # more is a mark for "no value", and its differences overflow float32


@dataclass(frozen=True, slots=True)
class Volume:
    """An image in canonical orientation and what is needed to write a result back beside it."""

    path: Path
    data: Array  # [C, X, Y, Z] float32, raw intensities
    spacing: tuple[float, float, float]  # mm along X, Y, Z
    affine: Array  # [4, 4] voxel of `data` -> mm


def read_image(path: Path, channels: tuple[int, ...] = (0,)) -> Volume:
    """Read the chosen channels of a 2-D, 3-D or 4-D NIfTI image.

    Raises VolumeError for a file that is unreadable, damaged, of another kind, has too few
    channels, or holds NaN or infinite voxels.
    """
    image = open_nifti(path)
    shape = spatial_shape(path, image)
    count = count_channels(image)
    wrong = [c for c in channels if not 0 <= c < count]
    if wrong or not channels:
        have = "channel 0 only" if count == 1 else f"channels 0 to {count - 1}"
        raise VolumeError(f"{path}: has {have}, but {list(channels)} is wanted; give an image with these channels")
    stack = np.stack([read_voxels(path, image, c).reshape(shape) for c in channels])
    bad = int(stack.size - (np.abs(stack) < _LARGEST).sum())
    if bad:
        raise VolumeError(
            f"{path}: {bad} of {stack.size} voxels are NaN, infinite or beyond {_LARGEST:g}; "
            "replace them, for example by 0"
        )
    to_ras = orientations.io_orientation(image.affine)
    data = np.stack([orientations.apply_orientation(channel, to_ras) for channel in stack])
    return Volume(path, np.ascontiguousarray(data), *place_of(image, shape))


def read_label(path: Path) -> Volume:
    """Read a label map. ``data`` is [1, X, Y, Z] int32. Raises VolumeError as read_image, and for
    fractions."""
    image = open_nifti(path)
    if len(image.shape) > 3 and image.shape[-1] != 1:
        raise VolumeError(
            f"{path}: is {len(image.shape)}-D with {image.shape[-1]} channels; "
            "a label map must be one 3-D volume of whole numbers"
        )
    volume = read_image(path)
    whole = np.round(volume.data)
    fractions = np.abs(whole - volume.data) > 1e-3  # less than that is the rounding of a scaled file
    if fractions.any():
        example = volume.data[fractions].flat[0]
        raise VolumeError(
            f"{path}: holds the value {example:g}; a label map holds whole numbers only (is it a probability map?)"
        )
    if np.abs(whole).max(initial=0) > 2**24:
        raise VolumeError(f"{path}: holds the value {np.abs(whole).max():g}; label values go up to {2**24}")
    return Volume(path, whole.astype(np.int32), volume.spacing, volume.affine)


def read_spacing(path: Path) -> tuple[float, float, float] | None:
    """Voxel size in mm along the canonical axes, from the header; None if it cannot be read."""
    try:
        image = open_nifti(path)
        return place_of(image, spatial_shape(path, image))[0]
    except VolumeError:
        return None


def read_channels(path: Path) -> int | None:
    """Number of channels, from the header; None if it cannot be read."""
    try:
        return count_channels(open_nifti(path))
    except VolumeError:
        return None


def read_shape(path: Path) -> tuple[int, int, int] | None:
    """Number of voxels along the canonical axes, from the header; None if it cannot be read."""
    try:
        image = open_nifti(path)
        shape = spatial_shape(path, image)
    except VolumeError:
        return None
    to_ras = orientations.io_orientation(image.affine)
    x, y, z = (shape[list(to_ras[:, 0]).index(axis)] for axis in range(3))
    return x, y, z


def check_match(image: Volume, label: Volume, ignore_affine: bool = False) -> None:
    """Raise VolumeError unless both have one shape and lie at the same place in space.

    The places agree if no corner of the volume moves by more than half a voxel.
    """
    shape, other = image.data.shape[1:], label.data.shape[1:]
    if shape != other:
        raise VolumeError(
            f"{label.path}: has {by(other)} voxels but its image {image.path.name} has {by(shape)} "
            "(in right, front, top order); resample one to the other"
        )
    corners = np.array([[x, y, z, 1] for x in (0, shape[0]) for y in (0, shape[1]) for z in (0, shape[2])])
    shift = np.linalg.norm((corners @ (image.affine - label.affine).T)[:, :3], axis=1).max()
    if not ignore_affine and shift > 0.5 * min(image.spacing):
        raise VolumeError(
            f"{label.path}: lies {shift:.3g} mm away from its image {image.path.name} in space; "
            "correct the affine of one of them, or pass --ignore-affine if the voxels do match"
        )


def check_sides(path: Path, shape: Sequence[int], least: int) -> None:
    """Raise VolumeError unless every side has as many voxels as a 3-D model's perception needs."""
    if min(shape) < least:
        raise VolumeError(
            f"{path}: has {by(tuple(shape))} voxels, and this 3-D model needs {least} along each side; leave it out, "
            "or train with --dims 2, or with fewer levels, a smaller scale or smaller kernels"
        )
