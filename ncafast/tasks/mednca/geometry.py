"""Where a file's voxels lie in the patient, by its sform or by its qform, and whether the two contradict each other.

A header may say it three times: sform (an affine), qform (directions) with pixdim (voxel sizes), or pixdim alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import orientations
from nibabel.affines import voxel_sizes
from nibabel.spatialimages import HeaderDataError

from ncafast.nifti import NiftiFile, VolumeError, try_open
from ncafast.tasks.mednca.options import Geometry
from ncafast.utils.progress import is_first, note

Array = np.ndarray[Any, Any]

_CLOSE = 0.01  # relative difference up to which two voxel sizes are one
_MM = {1: 1000.0, 3: 0.001}  # by the code of the unit of length: metres, micrometres; others are mm
_FLAT = 1e-6  # volume of a voxel as part of the product of its sides, up to which an affine is no affine of a volume
_QUATERNION = "quatern_b", "quatern_c", "quatern_d"
_said: set[str] = set()  # a cross-validation trains on the same files again and again


@dataclass(frozen=True, slots=True)
class Position:
    """Where the voxels of a file lie once their axes run to the right, the front and the top."""

    axes: Array  # [3, 2] of each axis as stored, which one it becomes and its direction, as nibabel has it
    affine: Array  # [4, 4] voxel in canonical order -> position, in the unit of the file
    spacing: tuple[float, float, float]  # mm

    def canonical(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """A shape as stored, (I, J, K) -> (X, Y, Z)."""
        x, y, z = (shape[axis] for axis in np.argsort(self.axes[:, 0]))
        return x, y, z

    def to_canonical(self, stored: Array) -> Array:
        """[C, I, J, K] as stored -> [C, X, Y, Z], a view."""
        return np.moveaxis(orientations.apply_orientation(np.moveaxis(stored, 0, -1), self.axes), -1, 0)

    def to_stored(self, data: Array) -> Array:
        """[X, Y, Z] -> [I, J, K] as stored."""
        ras = orientations.axcodes2ornt("RAS")
        return np.asarray(orientations.apply_orientation(data, orientations.ornt_transform(ras, self.axes)))

    def distance_to(self, other: Position, shape: tuple[int, int, int]) -> float:
        """How far a volume of this shape (X, Y, Z) at another position is off: the most that a corner moves, in mm."""
        corners = np.array([(*corner, 1) for corner in itertools.product(*((0, size) for size in shape))])
        shift = np.linalg.norm((corners @ (self.affine - other.affine).T)[:, :3], axis=1).max()
        return float(shift * self.spacing[0] / voxel_sizes(self.affine)[0])  # the affine may be in another unit


def position_of(file: NiftiFile, geometry: Geometry = "sform") -> Position:
    """Where the voxels of a file lie. Raises VolumeError if its header does not say.

    Args:
        file: an opened file.
        geometry: "sform" takes the sform if there is one, else the qform; "qform" takes the qform with the voxel sizes
            of pixdim. Where there is no qform, its directions are those of the sform.
    """
    affine = _affine(file, geometry)
    with np.errstate(all="ignore"):
        axes = _axes(affine)
        if axes is None:
            raise VolumeError(
                f"{file.path}: its affine cannot be inverted; write voxel sizes and directions into its header"
                f"{_other_way(file, geometry)}"
            )
        affine = affine @ orientations.inv_ornt_aff(axes, file.shape)
        x, y, z = (float(size) * _MM.get(int(file.header["xyzt_units"]) & 7, 1.0) for size in voxel_sizes(affine))
    return Position(axes, affine, (x, y, z))


def contradiction(file: NiftiFile) -> str | None:
    """What sform and qform (or pixdim) say where they differ in voxel sizes or orientation, None where they agree or
    there is but one of them."""
    if not _has(file, "sform"):
        return None
    sides = [axis for axis, size in enumerate(file.shape) if size > 1]
    pixdim = np.asarray(file.header["pixdim"][1:4], np.float64)
    sform, qform = file.header.get_sform(), _qform(file)
    with np.errstate(all="ignore"):
        sizes = voxel_sizes(sform)
        same = bool((np.abs(sizes - pixdim)[sides] <= _CLOSE * sizes[sides]).all())
        ours, theirs = _codes(sform), _codes(qform)
    if ours == theirs or not ours or not theirs:
        if same:
            return None
        ours = theirs = ""
    other = "qform" if _has(file, "qform") else "pixdim"
    return f"its sform says {_mm(sizes)}{ours}, its {other} {_mm(pixdim)}{theirs}"


def say_contradictions(paths: Iterable[Path], geometry: Geometry) -> None:
    """Say what `contradictions` finds, unless this process has said it before."""
    if not is_first():
        return
    for line in contradictions(paths, geometry):
        if line not in _said:
            _said.add(line)
            note(line)


def contradictions(paths: Iterable[Path], geometry: Geometry) -> Iterator[str]:
    """One line for each kind of contradiction, with the first file that has it and the number of files that have.

    Args:
        paths: of the files. Those that cannot be read do not count.
        geometry: what says where voxels lie, sform or qform.
    """
    files = list(filter(None, map(try_open, paths)))
    taken = "the sform is not taken, as --geometry qform says"
    if geometry == "sform":
        taken = "the sform is taken, unless --geometry qform is given"
    kinds: dict[str, list[str]] = {}
    for file in files:
        if difference := contradiction(file):
            kinds.setdefault("geometry", []).append(f"{file.path}: {difference}; {taken}")
        for kind, repair in file.repairs.items():
            kinds.setdefault(kind, []).append(f"{file.path}: {repair}")
    for lines in kinds.values():
        yield f"{lines[0]} ({len(lines)} of {len(files)} files are of this kind)"


def _affine(file: NiftiFile, geometry: Geometry) -> Array:
    """Voxel as stored -> position, [4, 4]."""
    header = file.header
    if _has(file, "sform") and geometry == "sform":
        return np.asarray(header.get_sform())
    if _has(file, "qform"):
        affine = _qform(file)
        if affine is None:
            numbers = ", ".join(f"{name}={float(header[name]):g}" for name in _QUATERNION)
            raise VolumeError(
                f"{file.path}: its qform has no directions: {numbers}, whose squares add up to more than 1; write them "
                f"again, with set_qform of nibabel or by another export{_other_way(file, geometry)}"
            )
        return affine
    if _has(file, "sform"):
        affine = np.asarray(header.get_sform())
        with np.errstate(all="ignore"):
            affine[:3, :3] *= header["pixdim"][1:4] / voxel_sizes(affine)
        return affine
    return np.asarray(header.get_base_affine())


def _has(file: NiftiFile, geometry: Geometry) -> bool:
    return int(file.header[f"{geometry}_code"]) > 0


def _qform(file: NiftiFile) -> Array | None:
    """The qform's affine; None if there is none, or its quaternion is no rotation."""
    try:
        return np.asarray(file.header.get_qform()) if _has(file, "qform") else None
    except (HeaderDataError, ValueError):
        return None


def _axes(affine: Array) -> Array | None:
    """The orientation as nibabel has it, [3, 2]; None for an affine that cannot be inverted."""
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine[:3, :3] / voxel_sizes(affine))) > _FLAT:
        return None
    axes = orientations.io_orientation(affine)
    return axes if np.isfinite(axes).all() else None


def _other_way(file: NiftiFile, geometry: Geometry) -> str:
    """The option that may help, as the end of an error."""
    other: Geometry = "qform" if geometry == "sform" else "sform"
    both = _has(file, "sform") and _has(file, "qform")
    return f", or try --geometry {other}" if both else ""


def _codes(affine: Array | None) -> str:
    """The sides to which the axes run, as " LPS"; empty if they are not known."""
    axes = None if affine is None else _axes(affine)
    return "" if axes is None else f" {''.join(orientations.ornt2axcodes(axes))}"


def _mm(sizes: Array) -> str:
    return f"{' x '.join(f'{size:.4g}' for size in sizes)} mm"
