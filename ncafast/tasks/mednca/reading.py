"""Reading the files of one case as one image and one label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncafast.tasks.mednca.matching import Waived, check_match, read_matching_label
from ncafast.tasks.mednca.nifti import VolumeError
from ncafast.tasks.mednca.options import Geometry
from ncafast.tasks.mednca.pairs import Pair
from ncafast.tasks.mednca.volumes import Volume, read_channels, read_image

Array = np.ndarray[Any, Any]


def count_channels(paths: Sequence[Path]) -> int:
    """Channels of a case: those of its 4-D file, or one per file. 1 for a file that cannot be read."""
    return (read_channels(paths[0]) or 1) if len(paths) == 1 else len(paths)


def read_case(paths: Sequence[Path], channels: tuple[int, ...], geometry: Geometry = "sform") -> Volume:
    """The chosen channels of a case, `read_image` of one file or one channel from each of several.

    Raises VolumeError also where modalities differ in their shape or in their position in space.
    """
    if len(paths) == 1:
        return read_image(paths[0], channels, geometry)
    wrong = [channel for channel in channels if not 0 <= channel < len(paths)]
    if wrong:
        raise VolumeError(
            f"{paths[0]}: its case has channels 0 to {len(paths) - 1}, one per file, but {list(channels)} is wanted; "
            "choose among these with --channels"
        )
    volumes = [_modality(paths[channel], geometry) for channel in channels]
    first = volumes[0]
    for other in volumes[1:]:
        _check_geometry(first, other)
    return Volume(first.path, np.concatenate([volume.data for volume in volumes]), first.position)


@dataclass(frozen=True, slots=True)
class Truth:
    """The label map of a case."""

    data: Array  # [1, X, Y, Z] int32
    waived: Waived  # what --ignore-affine changed for it
    overlap: str  # which masks overlap others, in words


def read_truth(pair: Pair, image: Volume, geometry: Geometry = "sform", ignore_affine: bool = False) -> Truth:
    """The label map of a case whose image was read: a file, or one made of a mask per structure.

    Raises VolumeError unless it fits the image.
    """
    if not pair.masks:
        match = read_matching_label(image, pair.label, geometry, ignore_affine)
        return Truth(match.label.data, match.waived, "")
    index = np.zeros((1, *image.data.shape[1:]), np.int32)
    overlaps: list[str] = []
    waived: Waived = ""
    for value, path in pair.masks:
        match = read_matching_label(image, path, geometry, ignore_affine)
        waived = waived or match.waived
        inside = match.label.data > 0
        if twice := int(np.count_nonzero(index[inside])):
            overlaps.append(f"{path.name} shares {twice} voxels with masks before it")
        index[inside] = value
    return Truth(index, waived, ", ".join(overlaps))


def _modality(path: Path, geometry: Geometry) -> Volume:
    count = read_channels(path)
    if count is not None and count > 1:
        raise VolumeError(
            f"{path}: is 4-D with {count} channels, but its case has a file per channel; give 3-D files, or all "
            "channels in one 4-D file"
        )
    return read_image(path, (0,), geometry)


def _check_geometry(first: Volume, other: Volume) -> None:
    """Raise VolumeError unless two modalities have one shape and no corner is more than half a voxel apart."""
    try:
        check_match(first, other)
    except VolumeError:
        shapes = ["x".join(map(str, volume.data.shape[1:])) for volume in (other, first)]
        what = f"has {shapes[0]} voxels" if shapes[0] != shapes[1] else "lies elsewhere in space"
        raise VolumeError(
            f"{other.path}: {what}, but {first.path.name} of the same case "
            f"{f'has {shapes[1]}' if shapes[0] != shapes[1] else 'has another affine'}; resample one to the other"
        ) from None
