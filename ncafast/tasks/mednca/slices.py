"""From volumes to slices: normalised intensities, labels as class numbers, the slicing axis first.

`Recipe` holds every choice that shapes the numbers a model sees, so that prediction repeats what training did.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ncafast.nifti import VolumeError
from ncafast.tasks.mednca.options import Axis, Geometry
from ncafast.tasks.mednca.pairs import ending
from ncafast.tasks.mednca.reading import count_channels, read_case
from ncafast.tasks.mednca.volumes import Volume, read_grid
from ncafast.utils.json_files import Jsonable
from ncafast.utils.option_checks import Range, check_options, refused
from ncafast.utils.texts import printable

Array = np.ndarray[Any, Any]

_AT_ONCE = 16  # slices; as many floats are read together from memory
AXES: tuple[Axis, ...] = get_args(Axis)


@dataclass(frozen=True, slots=True)
class Recipe(Jsonable):
    """How a volume becomes the slices of a model."""

    axis: Axis = "coronal"
    channels: tuple[int, ...] = (0,)
    classes: tuple[int, ...] = ()
    percentiles: tuple[float, float] = (0.5, 99.5)
    several: bool = False  # whether the training images had more channels than one, to choose from
    geometry: Geometry = "sform"  # what of a header says where its voxels lie
    files: int = 1  # image files of a case, one per channel; 1 if all channels are in one file
    numbered: bool = False  # whether the training images' names ended in _0000
    channel_names: tuple[str, ...] = ()  # of `channels`, where a dataset.json gave them
    label_names: tuple[str, ...] = ()  # of `values`, where they are known

    def __post_init__(self) -> None:
        shares = Range(0, 100, whole=False)
        check_options(self, channels=0, classes=Range(1, 255), percentiles=shares, files=1)
        if not self.channels:
            raise refused("channels", self.channels, "give one or more whole numbers from 0")
        if len(set(self.classes)) < len(self.classes):
            raise refused("classes", self.classes, "give different label values")
        if not self.percentiles[0] < self.percentiles[1]:
            raise refused("percentiles", self.percentiles, "give two rising numbers")
        for name, things in (("channel_names", self.channels), ("label_names", self.values)):
            if len(getattr(self, name)) not in (0, len(things)):
                raise refused(name, getattr(self, name), f"give {len(things)} names")

    def to_json(self) -> str:
        """One line of JSON. Fields that earlier versions did not have are left out at their defaults."""
        fields = dataclasses.asdict(self)
        added = {"files": 1, "numbered": False, "channel_names": (), "label_names": ()}
        kept = {name: value for name, value in fields.items() if name not in added or value != added[name]}
        return json.dumps(kept, sort_keys=True)

    def check_channels(self, chosen: tuple[int, ...] | None) -> None:
        """Raise ValueError unless as many channels are chosen as training had, or none."""
        if chosen is not None and len(chosen) != len(self.channels):
            raise refused("channels", chosen, f"the model takes {len(self.channels)}, so give as many")

    def read(self, paths: Sequence[Path], chosen: tuple[int, ...] | None = None) -> Volume:
        """`read_case` of the channels that training took, or of the chosen ones.

        Raises VolumeError also as `check_case`.
        """
        self.check_case(paths, chosen)
        return read_case(paths, self.channels if chosen is None else chosen, self.geometry)

    def check_case(self, paths: Sequence[Path], chosen: tuple[int, ...] | None) -> None:
        """Raise VolumeError for a case of another number of files or channels than the training images had, unless
        channels are chosen, since nothing says which of them those were."""
        if chosen is None and len(paths) != self.files:
            raise VolumeError(self.miscounted(paths))
        count = count_channels(paths)
        if chosen is None and count > 1 and self.files == 1 and not self.several:
            raise VolumeError(
                f"{paths[0]}: is 4-D with {count} channels, but the model was trained on 3-D images; choose one of 0 "
                f"to {count - 1} with --channels, if it is an image of the same kind"
            )

    def miscounted(self, paths: Sequence[Path]) -> str:
        """One line about a case of another number of image files than the model was trained on."""
        count, wanted = len(paths), self.files
        names = f" ({', '.join(self.channel_names)})" if self.channel_names else ""
        here = f" ({', '.join(path.name for path in paths)})" if count > 1 else ""
        what = f"{paths[0]}: its case has {_files(count)}{here}, but the model takes {_files(wanted)} per case{names}"
        if wanted == 1:
            return f"{what}; choose --channels among 0 to {count - 1}, or give --suffix name if each file is a case"
        if count > wanted:
            return f"{what}; choose {len(self.channels)} --channels among 0 to {count - 1}"
        ends = ", ".join(ending(number) for number in range(wanted))
        channels = count_channels(paths)
        todo = f", or choose {len(self.channels)} of its {channels} --channels" if channels > 1 else ""
        return f"{what}; give files that end in {ends}{todo}"

    def name_of(self, value: int) -> str:
        """The name of a class by its label value as text for people, or "label 3"."""
        return printable(self.label_names[self.values.index(value)]) if self.label_names else f"label {value}"

    @property
    def names(self) -> dict[int, str]:
        """`name_of` each value."""
        return {value: self.name_of(value) for value in self.values}

    @property
    def values(self) -> tuple[int, ...]:
        """The label value written for each class; 1 where all labels were merged."""
        return self.classes or (1,)

    @property
    def slice_axis(self) -> int:
        """The canonical axis that is cut along."""
        return AXES.index(self.axis)

    def slices_of(self, volume: Volume) -> Array:
        """`image_slices` of a volume that was read. Raises VolumeError if they would be mere strips."""
        self.check_slices(volume.path, volume.shape)
        return self.image_slices(volume.data)

    def check_slices(self, path: Path, shape: Sequence[int]) -> None:
        """Raise VolumeError if the slices of a volume would be mere strips."""
        height, width = (size for axis, size in enumerate(shape) if axis != self.slice_axis)
        if min(height, width) < 2:
            raise VolumeError(
                f"{path}: its {self.axis} slices are {height}x{width} pixels, and 2 are needed each way; "
                "leave it out, or train with the --axis across which it is flat"
            )

    def image_slices(self, data: Array) -> Array:
        """[C, X, Y, Z] raw intensities -> [S, C, H, W] float16 in 0..1.

        Every channel is scaled on its own: its percentiles over non-zero voxels become 0 and 1, the rest is clipped. A
        channel without contrast becomes 0. float16 (steps of 1/2048 at most) halves the cache.
        """
        moved = np.moveaxis(data, self.slice_axis + 1, 0)
        slices = np.empty(moved.shape, np.float16)
        for number, channel in enumerate(data):
            _normalise(channel, self.percentiles, moved[:, number], slices[:, number])
        return slices

    def label_slices(self, data: Array) -> Array:
        """[1, X, Y, Z] label values -> [S, H, W] uint8: 0 for background, k for the k-th class."""
        index = np.zeros(data.shape[1:], np.uint8)
        for k, value in enumerate(self.classes, start=1):
            index[data[0] == value] = k
        if not self.classes:
            index[data[0] > 0] = 1
        return np.ascontiguousarray(np.moveaxis(index, self.slice_axis, 0))

    def to_volume(self, index: Array) -> Array:
        """[S, H, W] class numbers -> [X, Y, Z] uint8 label values in canonical orientation."""
        table = np.array((0, *self.values), np.uint8)
        return self.to_canonical(table[index])

    def to_canonical(self, slices: Array) -> Array:
        """[S, H, W] -> [X, Y, Z]."""
        return np.moveaxis(slices, 0, self.slice_axis)

    def slice_spacing(self, spacing: tuple[float, float, float]) -> tuple[float, float, float]:
        """Voxel size in mm along slices, rows and columns, from that along X, Y, Z."""
        rest = [size for axis, size in enumerate(spacing) if axis != self.slice_axis]
        return (spacing[self.slice_axis], rest[0], rest[1])


def sharpest_axis(images: Sequence[Path], geometry: Geometry = "sform") -> Axis:
    """The slices perpendicular to the coarsest direction, if that is 1.5 times coarser than the
    finest; else coronal. Flat images are one slice.

    Judged by the median shape and voxel size of the images; those whose header cannot be read do not count.
    """
    grids = list(filter(None, (read_grid(image, geometry) for image in images)))
    if grids:
        shape, spacing = (np.median(np.array(numbers), axis=0) for numbers in zip(*grids, strict=True))
        if shape.min() == 1:
            return AXES[int(shape.argmin())]
        if spacing.max() > 1.5 * spacing.min():
            return AXES[int(spacing.argmax())]
    return "coronal"


def without_contrast(path: Path) -> VolumeError:
    """The error for an image of which `Recipe.image_slices` leaves zeros alone, so that a model sees nothing."""
    return VolumeError(
        f"{path}: has no contrast, as its voxels are all alike (0 aside); leave it out, or export it again"
    )


def _files(count: int) -> str:
    return f"{count} image file{'s' if count > 1 else ''}"


def _normalise(channel: Array, percentiles: tuple[float, float], slices: Array, to: Array) -> None:
    """Scale the slices of a channel, a few at a time, so that its numbers are never there three times."""
    inside = channel[channel != 0]
    found = np.percentile(inside, percentiles, overwrite_input=True) if inside.size else (0, 0)
    low, high = map(np.float32, found)
    for first in range(0, len(slices), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        to[some] = scaled(slices[some], (low, high))


def scaled(values: Array, limits: tuple[np.float32, ...] | None) -> Array:
    """Intensities with these limits as 0 and 1, the rest clipped; 0 without contrast."""
    low, high = limits or (np.float32(0), np.float32(0))
    return np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
