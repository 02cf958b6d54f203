"""Reading and writing NIfTI volumes, with one clear line for every file that cannot be used.

Inside the task every volume is in canonical orientation: its axes run to the patient's right, front
and top (RAS), whatever order and direction the file stores. Predictions go back to the file's own
orientation.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations

from ncafast.files import replacing

Array = np.ndarray[Any, Any]

_MAGIC_GZIP = b"\x1f\x8b"
_LARGEST = 1e30  # more is a mark for "no value", and its differences overflow float32
_READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    zlib.error,
    struct.error,
    OverflowError,
)


class VolumeError(ValueError):
    """A file that cannot be used; the message is one line that names it and says what to do."""


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
    image = _open(path)
    shape = _spatial_shape(path, image)
    count = _channels(image)
    wrong = [c for c in channels if not 0 <= c < count]
    if wrong or not channels:
        have = "channel 0 only" if count == 1 else f"channels 0 to {count - 1}"
        raise VolumeError(f"{path}: has {have}, but {list(channels)} is wanted; give an image with these channels")
    stack = np.stack([_voxels(path, image, c).reshape(shape) for c in channels])
    bad = int(stack.size - (np.abs(stack) < _LARGEST).sum())
    if bad:
        raise VolumeError(
            f"{path}: {bad} of {stack.size} voxels are NaN, infinite or beyond {_LARGEST:g}; "
            "replace them, for example by 0"
        )
    to_ras = orientations.io_orientation(image.affine)
    data = np.stack([orientations.apply_orientation(channel, to_ras) for channel in stack])
    return Volume(path, np.ascontiguousarray(data), *_geometry(image, shape))


def read_label(path: Path) -> Volume:
    """Read a label map. ``data`` is [1, X, Y, Z] int32. Raises VolumeError as read_image, and for
    fractions."""
    image = _open(path)
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
        image = _open(path)
        return _geometry(image, _spatial_shape(path, image))[0]
    except VolumeError:
        return None


def read_channels(path: Path) -> int | None:
    """Number of channels, from the header; None if it cannot be read."""
    try:
        return _channels(_open(path))
    except VolumeError:
        return None


def read_shape(path: Path) -> tuple[int, int, int] | None:
    """Number of voxels along the canonical axes, from the header; None if it cannot be read."""
    try:
        image = _open(path)
        shape = _spatial_shape(path, image)
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
            f"{label.path}: has {_by(other)} voxels but its image {image.path.name} has {_by(shape)} "
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
            f"{path}: has {_by(tuple(shape))} voxels, and this 3-D model needs {least} along each side; leave it out, "
            "or train with --dims 2, or with fewer levels, a smaller scale or smaller kernels"
        )


def write_labels(path: Path, labels: Array, like: Path) -> None:
    """Write a label map [X, Y, Z] uint8 in canonical orientation beside the image it belongs to; see `write_map`."""
    write_map(path, labels.astype(np.uint8), like, intent="label")


def write_map(path: Path, values: Array, like: Path, intent: str = "none") -> None:
    """Write one number per voxel beside the image it belongs to.

    ``values`` is [X, Y, Z] uint8 or float32 in canonical orientation; the file gets the orientation, affine, header
    geometry and spatial shape of ``like`` (3-D also where that is 4-D). It appears under its name only when complete.
    """
    source = _open(like)
    shape = _spatial_shape(like, source)
    ras = orientations.axcodes2ornt("RAS")
    back = orientations.ornt_transform(ras, orientations.io_orientation(source.affine))
    own = orientations.apply_orientation(values, back)
    if own.shape != shape:
        raise ValueError(f"labels of shape {_by(own.shape)} do not fit {like} with {_by(shape)} voxels")
    header = source.header.copy()
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1.0, 0.0)
    header.set_intent(intent)
    header["cal_min"] = header["cal_max"] = 0
    if len(source.shape) == 2:
        own = own[:, :, 0]
    ending = ".nii" if path.name.lower().endswith(".nii") else ".nii.gz"
    with replacing(path, ending) as scratch:
        nib.save(type(source)(own, source.affine, header), scratch)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)


def _open(path: Path) -> nib.Nifti1Image:
    """The image's header; voxels are read later."""
    if not path.is_file():
        raise VolumeError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise VolumeError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
    if not start:
        raise VolumeError(f"{path}: the file is empty; copy it again")
    named_gz = path.name.lower().endswith(".gz")
    if named_gz != (start == _MAGIC_GZIP):
        kind, ending = ("not compressed", ".nii") if named_gz else ("gzip-compressed", ".nii.gz")
        raise VolumeError(f"{path}: the file is {kind}, or no NIfTI at all; rename it to end in {ending}")
    try:
        image = nib.load(path)
    except (
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
        *_READ_ERRORS,
    ) as error:
        raise VolumeError(f"{path}: is no readable NIfTI file ({_short(error)}); copy or export it again") from error
    if not isinstance(image, nib.Nifti1Image):
        raise VolumeError(f"{path}: is a {type(image).__name__}, not NIfTI; convert it to .nii.gz")
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        raise VolumeError(f"{path}: holds voxels of type {dtype}; real numbers are needed, so convert it")
    affine = image.affine
    if affine is None or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise VolumeError(f"{path}: its affine cannot be inverted; write voxel sizes and directions into its header")
    return image


def _spatial_shape(path: Path, image: nib.Nifti1Image) -> tuple[int, int, int]:
    shape = tuple(image.shape)
    allowed = 2 <= len(shape) <= 4 or (len(shape) == 5 and shape[3] == 1)
    if not allowed or 0 in shape:
        raise VolumeError(f"{path}: has shape {_by(shape)}; 3-D, or 4-D with channels last, is needed")
    x, y, z = (*shape[:3], 1)[:3]
    return x, y, z


def _channels(image: nib.Nifti1Image) -> int:
    return int(image.shape[-1]) if len(image.shape) > 3 else 1


def _voxels(path: Path, image: nib.Nifti1Image, channel: int) -> Array:
    """One channel as float32, with the header's slope and intercept applied."""
    where = (..., channel) if len(image.shape) > 3 else (...,)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(image.dataobj[where]).astype(np.float32)
    except MemoryError:
        raise VolumeError(
            f"{path}: its {_by(tuple(image.shape))} voxels do not fit into the memory that is free; "
            "shrink or crop it, or use a machine with more"
        ) from None
    except _READ_ERRORS as error:
        raise VolumeError(f"{path}: is truncated or damaged ({_short(error)}); copy it again") from error


def _geometry(image: nib.Nifti1Image, shape: tuple[int, int, int]) -> tuple[tuple[float, float, float], Array]:
    to_ras = orientations.io_orientation(image.affine)
    affine = image.affine @ orientations.inv_ornt_aff(to_ras, shape)
    x, y, z = (float(size) for size in nib.affines.voxel_sizes(affine))
    return (x, y, z), affine


def _short(error: BaseException) -> str:
    """The first line of an error, short enough to stand inside ours."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:100]
