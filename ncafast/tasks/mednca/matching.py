"""Whether a label map lies where its image does, and what --ignore-affine assumes of one that does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from nibabel.affines import voxel_sizes

from ncafast.tasks.mednca.geometry import Position, position_of
from ncafast.tasks.mednca.nifti import VolumeError, by, open_nifti
from ncafast.tasks.mednca.options import Geometry
from ncafast.tasks.mednca.volumes import Volume, read_label

Waived = Literal["", "moved", "turned"]
"""What --ignore-affine changed for a label map: nothing; it lay elsewhere; or it lay on its image, but was stored with
other axes."""

_ASSUMED = "pass --ignore-affine if their voxels, as stored, do match: the label then takes the image's affine"


@dataclass(frozen=True, slots=True)
class Match:
    """The label map of an image, voxel by voxel."""

    label: Volume
    waived: Waived


def read_matching_label(image: Volume, path: Path, geometry: Geometry = "sform", ignore_affine: bool = False) -> Match:
    """Read the label map of an image.

    Args:
        image: the image, as read.
        path: of the label map.
        geometry: what of the label's header says where it lies; see `position_of`.
        ignore_affine: take the image's affine for the label, whose voxels then belong to the image's by their index in
            the files, whatever the label's header says.

    Raises:
        VolumeError: the label map cannot be read, has another shape, or lies elsewhere.
    """
    if not ignore_affine:
        label = read_label(path, geometry)
        check_match(image, label)
        return Match(label, "")
    label = read_label(path, position=image.position)
    if label.stored_shape != image.stored_shape:
        raise VolumeError(
            f"{path}: stores {by(label.stored_shape)} voxels but its image {image.path.name} {by(image.stored_shape)}; "
            "--ignore-affine needs the same, so resample one to the other"
        )
    return Match(label, _waived(image, path, geometry))


def check_match(image: Volume, label: Volume) -> None:
    """Raise VolumeError unless both have one shape and lie at the same position in space.

    The positions agree if no corner of the volume moves by more than half a voxel.
    """
    shape, other = image.data.shape[1:], label.data.shape[1:]
    if shape != other:
        todo = f", or {_ASSUMED}" if image.stored_shape == label.stored_shape else ""
        raise VolumeError(
            f"{label.path}: has {by(other)} voxels but its image {image.path.name} has {by(shape)} "
            f"(in right, front, top order); resample one to the other{todo}"
        )
    shift = shift_of(image, label.position)
    if shift > 0.5 * min(image.spacing):
        raise VolumeError(
            f"{label.path}: lies {shift:.3g} mm away from its image {image.path.name} in space; "
            f"correct the affine of one of them, or {_ASSUMED}"
        )


def shift_of(image: Volume, position: Position) -> float:
    """How far a volume of the image's shape at another position is off: the most that a corner moves, in mm."""
    x, y, z = image.data.shape[1:]
    corners = np.array([[i, j, k, 1] for i in (0, x) for j in (0, y) for k in (0, z)])
    shift = np.linalg.norm((corners @ (image.affine - position.affine).T)[:, :3], axis=1).max()
    return float(shift * image.spacing[0] / voxel_sizes(image.affine)[0])  # the affine may be in another unit


def waivers(found: Mapping[str, Waived]) -> Iterator[str]:
    """What --ignore-affine changed, one line for each kind; ``found`` is by the names of all label maps that were
    read."""
    moved, turned = ([name for name, waived in found.items() if waived == kind] for kind in ("moved", "turned"))
    if moved:
        yield (
            f"{len(moved)} of {len(found)} label maps lie elsewhere than their images, {moved[0]} first; they take the "
            "affine of these (--ignore-affine)"
        )
    if turned:
        yield (
            f"{len(turned)} of {len(found)} label maps lie on their images, but store their axes otherwise, "
            f"{turned[0]} first; --ignore-affine takes voxels by their index, so leave it out if the headers are right"
        )


def _waived(image: Volume, path: Path, geometry: Geometry) -> Waived:
    """How the label's own header differs from the image's."""
    try:
        position = position_of(open_nifti(path), geometry)
    except VolumeError:  # its header does not say where it lies
        return "moved"
    if position.canonical(image.stored_shape) != image.data.shape[1:] or shift_of(image, position) > 0.5 * min(
        image.spacing
    ):
        return "moved"
    return "" if np.array_equal(position.axes, image.position.axes) else "turned"
