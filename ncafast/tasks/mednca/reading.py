"""Reading the files of one case as one image and one label map, which must lie on each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ncafast.nifti import VolumeError, by, open_nifti
from ncafast.tasks.mednca.geometry import Position, position_of
from ncafast.tasks.mednca.options import Geometry
from ncafast.tasks.mednca.pairs import Pair
from ncafast.tasks.mednca.volumes import Shape, Volume, read_channels, read_image, read_label

Array = np.ndarray[Any, Any]

Waived = Literal["", "moved", "turned"]
"""What --ignore-affine changed for a label map: nothing; it lay elsewhere; or it lay on its image, but was stored with
other axes."""

_ASSUMED = "pass --ignore-affine if their voxels, as stored, do match: the label then takes the image's affine"


@dataclass(frozen=True, slots=True)
class Truth:
    """The label map of a case."""

    data: Array  # [1, X, Y, Z] int32
    waived: Waived  # what --ignore-affine changed for it
    overlap: str = ""  # which masks overlap others, in words


def count_channels(paths: Sequence[Path]) -> int:
    """Channels of a case: those of its 4-D file, or one per file. 1 for a file that cannot be read."""
    return (read_channels(paths[0]) or 1) if len(paths) == 1 else len(paths)


def read_case(paths: Sequence[Path], channels: tuple[int, ...], geometry: Geometry = "sform") -> Volume:
    """The chosen channels of a case, `read_image` of one file or one channel from each of several.

    Raises VolumeError also where modalities differ in their shape or in their position in space.
    """
    if len(paths) == 1:
        return read_image(paths[0], channels, geometry)
    if any(not 0 <= channel < len(paths) for channel in channels):
        raise VolumeError(
            f"{paths[0]}: its case has channels 0 to {len(paths) - 1}, one per file, but {list(channels)} is wanted; "
            "choose among these with --channels"
        )
    volumes = [_modality(paths[channel], geometry) for channel in channels]
    first = volumes[0]
    for volume in volumes[1:]:
        if reason := _mismatch(first, volume.shape, volume.position, f"{first.path.name} of the same case"):
            raise VolumeError(f"{volume.path}: {reason}")
    return Volume(first.path, np.concatenate([volume.data for volume in volumes]), first.position)


def read_truth(pair: Pair, image: Volume, geometry: Geometry = "sform", ignore_affine: bool = False) -> Truth:
    """The label map of a case whose image was read: a file, or one made of a mask per structure.

    Raises VolumeError unless it fits the image.
    """
    if not pair.masks:
        return read_matching_label(image, pair.label, geometry, ignore_affine)
    index = np.zeros((1, *image.shape), np.int32)
    overlaps: list[str] = []
    waived: Waived = ""
    for value, path in pair.masks:
        mask = read_matching_label(image, path, geometry, ignore_affine)
        waived = waived or mask.waived
        inside = mask.data > 0
        if twice := int(np.count_nonzero(index[inside])):
            overlaps.append(f"{path.name} shares {twice} voxels with masks before it")
        index[inside] = value
    return Truth(index, waived, ", ".join(overlaps))


def read_matching_label(image: Volume, path: Path, geometry: Geometry = "sform", ignore_affine: bool = False) -> Truth:
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
        return Truth(label.data, "")
    label = read_label(path, position=image.position)
    if label.stored_shape != image.stored_shape:
        raise VolumeError(
            f"{path}: stores {by(label.stored_shape)} voxels but its image {image.path.name} {by(image.stored_shape)}; "
            "--ignore-affine needs the same, so resample one to the other"
        )
    return Truth(label.data, _waived(image, path, geometry))


def check_match(image: Volume, label: Volume) -> None:
    """Raise VolumeError unless both have one shape and lie at the same position in space."""
    if reason := _mismatch(image, label.shape, label.position, f"its image {image.path.name}"):
        if image.stored_shape == label.stored_shape:
            reason += f", or {_ASSUMED}"
        raise VolumeError(f"{label.path}: {reason}")


def waivers(labels: Mapping[str, Waived]) -> Iterator[str]:
    """What --ignore-affine changed, one line for each kind; ``labels`` are all that were read, by their names."""
    moved, turned = ([name for name, waived in labels.items() if waived == kind] for kind in ("moved", "turned"))
    if moved:
        yield (
            f"{len(moved)} of {len(labels)} label maps lie elsewhere than their images, {moved[0]} first; they take "
            "the affine of these (--ignore-affine)"
        )
    if turned:
        yield (
            f"{len(turned)} of {len(labels)} label maps lie on their images, but store their axes otherwise, "
            f"{turned[0]} first; --ignore-affine takes voxels by their index, so leave it out if the headers are right"
        )


def _modality(path: Path, geometry: Geometry) -> Volume:
    count = read_channels(path)
    if count is not None and count > 1:
        raise VolumeError(
            f"{path}: is 4-D with {count} channels, but its case has a file per channel; give 3-D files, or all "
            "channels in one 4-D file"
        )
    return read_image(path, (0,), geometry)


def _mismatch(image: Volume, shape: Shape, position: Position, name: str) -> str:
    """How a volume of this shape and position differs from the image, which has this name, and what to do.

    Empty if both have one shape and no corner is more than half a voxel apart.
    """
    if image.shape != shape:
        difference = f"has {by(shape)} voxels but {name} has {by(image.shape)}"
        return f"{difference} (in right, front, top order); resample one to the other"
    distance = image.position.distance_to(position, shape)
    if distance <= 0.5 * min(image.spacing):
        return ""
    return f"lies {distance:.3g} mm away from {name} in space; correct the affine of one of them"


def _waived(image: Volume, path: Path, geometry: Geometry) -> Waived:
    """How the label's own header differs from the image's."""
    try:
        position = position_of(open_nifti(path), geometry)
    except VolumeError:  # its header does not say where it lies
        return "moved"
    if _mismatch(image, position.canonical(image.stored_shape), position, ""):
        return "moved"
    return "" if np.array_equal(position.axes, image.position.axes) else "turned"
