"""NIfTI files as they lie on disk: the header, the voxels as stored, and one clear line for every file that cannot be
read.

A compressed file is decompressed up to its end, so that gzip's checksum and length are verified; only the wanted
channels are kept.
"""

from __future__ import annotations

import gzip
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling

from ncafast.free_memory import require
from ncafast.medical_formats import hint
from ncafast.missing import missing
from ncafast.utils.texts import reason

Array = np.ndarray[Any, Any]

_MAGIC_GZIP = b"\x1f\x8b"
_HEADERS = nib.Nifti1Header, nib.Nifti2Header
_FATAL = 40  # nibabel's level of an error that leaves no way to read the file
_CODES = range(6)  # of sform and qform
_TYPES = nib.nifti1.data_type_codes
_SILENT = logging.Logger("silent", 100)  # what nibabel would print names no file; `_repairs` says it in our words
_CHUNK = 2**22  # bytes that are read at once
_MOST_RATIO = 1040  # deflate makes a file at most 1032 times smaller
_GZIP_ERRORS = gzip.BadGzipFile, EOFError, zlib.error
_READ_ERRORS = (
    *_GZIP_ERRORS,
    OSError,
    ValueError,
    KeyError,
    struct.error,
    OverflowError,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
)


class VolumeError(ValueError):
    """A file that cannot be used; the message is one line that names it and says what to do."""


@dataclass(frozen=True, slots=True)
class NiftiFile:
    """A file whose header was read and can be used."""

    path: Path
    header: nib.Nifti1Header
    repairs: dict[str, str]
    """What the header says against the format or against custom, and what is made of it, by the field."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the three axes, as stored."""
        i, j, k = (*self.header.get_data_shape()[:3], 1)[:3]
        return int(i), int(j), int(k)

    @property
    def compressed(self) -> bool:
        """Whether its voxels can be read from the start only."""
        return _compressed(self.path)

    @property
    def channels(self) -> int:
        """Number of channels: the length of the last axis of a 4-D image."""
        shape = self.header.get_data_shape()
        return int(shape[-1]) if len(shape) > 3 else 1


def open_nifti(path: Path) -> NiftiFile:
    """Read the header; the voxels are left alone. Raises VolumeError."""
    _check_name(path)
    try:
        header = _read_header(path)
        repairs = _repairs(header)
        header.check_fix(logger=_SILENT, error_level=_FATAL)
        refusal = _refusal(header)
    except _GZIP_ERRORS as error:
        raise _corrupt(path, error) from error
    except _READ_ERRORS as error:
        raise VolumeError(f"{path}: is no readable NIfTI file ({reason(error)}); copy or export it again") from error
    if refusal:
        raise VolumeError(f"{path}: {refusal}")
    return NiftiFile(path, header, repairs)


def try_open(path: Path) -> NiftiFile | None:
    """`open_nifti`, or None for a file that cannot be used."""
    try:
        return open_nifti(path)
    except VolumeError:
        return None


def read_voxels(file: NiftiFile, channels: Sequence[int]) -> Array:
    """The chosen channels as stored, [C, I, J, K] float32, with the header's slope and intercept applied.

    I is innermost in memory, as in the file. Raises VolumeError if the file is truncated or corrupt, and MemoryError.
    """
    check_length(file)
    require(read_bytes(file.shape, len(channels)), "reading it")
    data = np.empty((len(channels), math.prod(file.shape)), np.float32)
    scaling = file.header.get_slope_inter()
    with np.errstate(over="ignore", invalid="ignore"):
        for number, first, voxels in stored_chunks(file, channels):
            data[number, first : first + voxels.size] = apply_read_scaling(voxels, *scaling)
    return data.reshape(-1, *file.shape[::-1]).transpose(0, 3, 2, 1)


def read_bytes(shape: Sequence[int], channels: int) -> int:
    """The most bytes that reading so many channels takes until slices are made of them: all in float32 and float16, a
    mask and a copy of one channel."""
    return math.prod(shape) * (6 * channels + 5)


def stored_chunks(file: NiftiFile, channels: Sequence[int]) -> Iterator[tuple[int, int, Array]]:
    """The chosen channels as they are stored: (its number among these, index of the first voxel, voxels), I innermost.

    Raises VolumeError if the file is truncated or corrupt.
    """
    dtype = file.header.get_data_dtype()
    size = math.prod(file.shape) * dtype.itemsize
    offset = file.header.get_data_offset()
    check_length(file)
    try:
        with _stream(file.path) as stream:
            for number, channel in enumerate(channels):
                stream.seek(offset + channel * size)
                for start in range(0, size, _CHUNK):
                    stored = stream.read(min(_CHUNK, size - start))
                    if len(stored) < min(_CHUNK, size - start):
                        raise EOFError(f"it ends {size - start - len(stored):,} bytes before its last voxel")
                    yield number, start // dtype.itemsize, np.frombuffer(stored, dtype)
            while file.compressed and stream.read(_CHUNK):
                pass
    except _READ_ERRORS as error:
        raise _corrupt(file.path, error) from error


def by(shape: Sequence[int]) -> str:
    """A shape as text, such as 3x4x5."""
    return "x".join(str(size) for size in shape)


def _corrupt(path: Path, error: Exception) -> VolumeError:
    """The error for a file whose content ends early or does not fit its checksum."""
    why = reason(error)
    if isinstance(error, gzip.BadGzipFile):
        other = why.startswith("Not a gzipped file")
        why = "something else follows its compressed data" if other else f"its checksum does not fit: {why}"
    return VolumeError(f"{path}: is truncated or corrupt ({why}); copy it again")


def _check_name(path: Path) -> None:
    """Raise VolumeError unless there is a file of this name whose ending says what it holds."""
    if not path.is_file():
        raise VolumeError(f"{path}: {missing(path)}; give a .nii or .nii.gz file")
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        raise VolumeError(f"{path}: {hint(path) or 'is no .nii or .nii.gz file; convert it to .nii.gz'}")
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise VolumeError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
    if said := hint(path):  # DICOM under the name of a NIfTI file
        raise VolumeError(f"{path}: {said}")
    if not start:
        raise VolumeError(f"{path}: the file is empty; copy it again")
    if _compressed(path) != (start == _MAGIC_GZIP):
        kind, ending = ("not compressed", ".nii") if _compressed(path) else ("gzip-compressed", ".nii.gz")
        if not _has_mark(path, start == _MAGIC_GZIP):
            raise VolumeError(f"{path}: is no NIfTI file, whatever its name; give a .nii or .nii.gz file")
        raise VolumeError(f"{path}: the file is {kind}; rename it to end in {ending}")


def _has_mark(path: Path, compressed: bool) -> bool:
    """Whether a file begins as NIfTI files do."""
    try:
        with gzip.open(path) if compressed else path.open("rb") as stream:
            start = stream.read(nib.Nifti2Header.template_dtype.itemsize)
    except _READ_ERRORS:
        return False
    return any(kind.may_contain_header(start) for kind in _HEADERS)


def _compressed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _stream(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path) if _compressed(path) else path.open("rb")


def _read_header(path: Path) -> nib.Nifti1Header:
    """The header as it is in the file, unchecked, with its extensions."""
    with _stream(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of extensions whose size is unusual
        start = stream.read(nib.Nifti2Header.template_dtype.itemsize)
        kinds = [kind for kind in _HEADERS if kind.may_contain_header(start)]
        if not kinds:
            raise ValueError("its header lacks the mark of NIfTI")
        stream.seek(0)
        try:
            return kinds[0].from_fileobj(stream, check=False)
        except (ValueError, nib.spatialimages.HeaderDataError) as error:
            raise ValueError(f"its header extensions are corrupt: {reason(error)}") from error


def _repairs(header: nib.Nifti1Header) -> dict[str, str]:
    """What a header as it was read says against the format or against custom, and what is made of it, by the field."""
    repairs = {}
    for name in ("sform_code", "qform_code"):
        if int(header[name]) not in _CODES:
            repairs[name] = f"{name} is {int(header[name])}, which is no code; it is taken as 0"
    sizes = header["pixdim"][1 : 1 + min(3, max(1, int(header["dim"][0])))]
    if (sizes <= 0).any() and int(header["sform_code"]) not in _CODES[1:]:
        shown = " x ".join(f"{size:g}" for size in sizes)
        repairs["pixdim"] = f"its voxel size is {shown} (pixdim); 0 is taken as 1, and signs are left out"
    code, bits = int(header["datatype"]), int(header["bitpix"])
    if code in _TYPES.dtype and bits not in (0, 8 * header.get_data_dtype().itemsize):
        repairs["bitpix"] = f"it says {bits} bits per voxel (bitpix), and type {_TYPES.label[code]}; the type is taken"
    unit = {1: "metres", 3: "micrometres"}.get(int(header["xyzt_units"]) & 7)
    if unit is not None:
        repairs["xyzt_units"] = f"its voxel sizes are in {unit} (xyzt_units); they are converted to mm"
    if not np.isfinite(header["scl_slope"]):
        repairs["scl_slope"] = f"scl_slope is {float(header['scl_slope']):g}; its voxels are taken as stored"
    return repairs


def _refusal(header: nib.Nifti1Header) -> str:
    """Why a header that nibabel takes cannot be used, and what to do; empty if it can. Raises what nibabel raises."""
    if header["magic"].item() == header.pair_magic:
        return "says that its voxels are in a separate .img file; convert the two into one .nii.gz"
    offset, least = float(header["vox_offset"]), header.single_vox_offset
    if not least <= offset < np.inf:
        return f"says that its voxels start at byte {offset:g} (vox_offset), inside its header; correct it"
    if header.get_data_dtype().kind not in "iuf":
        name = _TYPES.label[int(header["datatype"])]
        return f"holds voxels of type {name}; real numbers are needed, so convert it"
    shape = tuple(int(size) for size in header.get_data_shape())
    allowed = 2 <= len(shape) <= 4 or (len(shape) == 5 and shape[3] == 1)
    if not allowed or min(shape) < 1:
        return f"has shape {by(shape)}; 3-D, or 4-D with channels last, is needed"
    if not np.isfinite(header["scl_inter"]) and header["scl_slope"] != 0 and np.isfinite(header["scl_slope"]):
        return f"has scl_inter={float(header['scl_inter']):g}, so its intensities are not known; correct it"
    return ""


def check_length(file: NiftiFile) -> None:
    """Raise VolumeError for a file too short for what its header says, before memory is asked for."""
    voxels = math.prod(file.shape) * file.channels
    wanted = file.header.get_data_offset() + voxels * file.header.get_data_dtype().itemsize
    length = file.path.stat().st_size
    most = length * _MOST_RATIO if file.compressed else length
    if wanted > most:
        shape = by(file.header.get_data_shape())
        raise VolumeError(
            f"{file.path}: is truncated or corrupt (its header says {shape} voxels, which need {wanted:,} bytes, and "
            f"the file has {length:,}); copy it again"
        )
