"""NIfTI files as they lie on disk: header, voxels, and one clear line for every file that cannot be read."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

Array = np.ndarray[Any, Any]

_MAGIC_GZIP = b"\x1f\x8b"
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


def open_nifti(path: Path) -> nib.Nifti1Image:
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


def spatial_shape(path: Path, image: nib.Nifti1Image) -> tuple[int, int, int]:
    """Voxels along the three axes as stored. Raises VolumeError for images that are no volumes."""
    shape = tuple(image.shape)
    allowed = 2 <= len(shape) <= 4 or (len(shape) == 5 and shape[3] == 1)
    if not allowed or 0 in shape:
        raise VolumeError(f"{path}: has shape {by(shape)}; 3-D, or 4-D with channels last, is needed")
    x, y, z = (*shape[:3], 1)[:3]
    return x, y, z


def count_channels(image: nib.Nifti1Image) -> int:
    """Number of channels, the last axis of a 4-D image."""
    return int(image.shape[-1]) if len(image.shape) > 3 else 1


def read_voxels(path: Path, image: nib.Nifti1Image, channel: int) -> Array:
    """One channel as float32, with the header's slope and intercept applied."""
    where = (..., channel) if len(image.shape) > 3 else (...,)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(image.dataobj[where]).astype(np.float32)
    except MemoryError:
        raise VolumeError(
            f"{path}: its {by(tuple(image.shape))} voxels do not fit into the memory that is free; "
            "shrink or crop it, or use a machine with more"
        ) from None
    except _READ_ERRORS as error:
        raise VolumeError(f"{path}: is truncated or damaged ({_short(error)}); copy it again") from error


def by(shape: tuple[int, ...]) -> str:
    """A shape as text, such as 3x4x5."""
    return "x".join(str(size) for size in shape)


def _short(error: BaseException) -> str:
    """The first line of an error, short enough to stand inside ours."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:100]
