"""Images in zarr stores, read by slabs: a plain array, or the first level of an OME-NGFF multiscales group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncafast.nifti import VolumeError, by
from ncafast.utils.texts import reason

Array = np.ndarray[Any, Any]

SPACE = "xyz"  # axes in the order of a volume's
_KNOWN = {"t", "c", *SPACE}
_BY_COUNT = {2: "yx", 3: "zyx"}  # axes of an array without metadata
_MM = {"meter": 1000.0, "centimeter": 10.0, "millimeter": 1.0, "micrometer": 1e-3, "nanometer": 1e-6}


@dataclass(frozen=True, slots=True)
class ZarrImage:
    """An image whose voxels are left where they are.

    Its axes x, y and z are those of a NIfTI file's voxels, in this order; one that is not there has one voxel.

    Attributes:
        path: of the store.
        array: of zarr.
        axes: names of the array's axes, of t, c, z, y, x.
        multiscales: OME-NGFF's metadata, None of a plain array.
        version: of OME-NGFF.
    """

    path: Path
    array: Any
    axes: str
    multiscales: Mapping[str, Any] | None = None
    version: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along X, Y, Z."""
        return self._sizes(self.array.shape)

    @property
    def grain(self) -> tuple[int, int, int]:
        """Voxels that are stored together, along X, Y, Z."""
        return self._sizes(self.array.chunks)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.array.shape[self.axes.index("c")]) if "c" in self.axes else 1

    @property
    def scale(self) -> tuple[float, ...]:
        """Size of a voxel along the array's axes, in their units."""
        found = np.ones(len(self.axes))
        if self.multiscales is not None:
            for owner in (self.multiscales["datasets"][0], self.multiscales):
                for change in owner.get("coordinateTransformations", ()):
                    found = found * np.array(change.get("scale", 1.0), float)
        return tuple(map(float, found))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along X, Y, Z in mm, or in units that are not known."""
        units = self.multiscales.get("axes", ()) if self.multiscales is not None else ()
        factors = [_MM.get(axis.get("unit", ""), 1.0) if isinstance(axis, Mapping) else 1.0 for axis in units]
        sizes = [size * factor for size, factor in zip(self.scale, factors or (1.0,) * len(self.axes), strict=True)]
        x, y, z = (sizes[self.axes.index(axis)] if axis in self.axes else 1.0 for axis in SPACE)
        return x, y, z

    def read(self, channel: int, place: tuple[slice, slice, slice]) -> Array:
        """Voxels of a channel, [X, Y, Z] float32. Raises VolumeError."""
        where = dict(zip(SPACE, place, strict=True)) | {"t": 0, "c": channel}
        try:
            stored = np.asarray(self.array[tuple(where[axis] for axis in self.axes)])
        except Exception as error:  # codecs raise whatever they like
            raise VolumeError(f"{self.path}: is truncated or corrupt ({reason(error)}); copy it again") from error
        return in_space(stored.astype(np.float32), self.axes)

    def _sizes(self, sizes: Sequence[int]) -> tuple[int, int, int]:
        x, y, z = (int(sizes[self.axes.index(axis)]) if axis in self.axes else 1 for axis in SPACE)
        return x, y, z


def in_space(stored: Array, axes: str) -> Array:
    """An array of the spatial axes among these as [X, Y, Z], a view."""
    there = [axis for axis in axes if axis in SPACE]
    moved = stored.transpose([there.index(axis) for axis in SPACE if axis in there])
    return moved[tuple(slice(None) if axis in there else None for axis in SPACE)]


def is_zarr(path: Path) -> bool:
    """Whether the name is that of a zarr store."""
    return path.name.lower().endswith(".zarr")


def open_zarr(path: Path) -> ZarrImage:
    """Read the metadata of a store. Raises VolumeError, and ImportError without zarr."""
    try:
        import zarr
    except ImportError:
        raise ImportError("zarr images need zarr; pip install 'ncafast[volume]'") from None
    if not path.is_dir():
        raise VolumeError(f"{path}: there is no such zarr store; give a folder that is one")
    try:
        opened = zarr.open(str(path), mode="r")
        image = (
            ZarrImage(path, opened, _axes_by_count(path, opened))
            if hasattr(opened, "chunks")
            else _first_level(path, opened)
        )
    except VolumeError:
        raise
    except Exception as error:  # as many as there are ways to be no store
        raise VolumeError(f"{path}: is no readable zarr store ({reason(error)}); copy or export it again") from error
    _check(image)
    return image


def _axes_by_count(path: Path, array: Any) -> str:
    if array.ndim not in _BY_COUNT:
        raise VolumeError(
            f"{path}: is an array of {array.ndim} axes that nothing names; give one of 2 (y, x) or 3 axes (z, y, x), "
            "or OME-NGFF metadata"
        )
    return _BY_COUNT[array.ndim]


def _first_level(path: Path, group: Any) -> ZarrImage:
    attributes = dict(group.attrs)
    inside = attributes.get("ome", attributes)
    found = inside.get("multiscales") if isinstance(inside, Mapping) else None
    if not found:
        raise VolumeError(
            f"{path}: is a group without OME-NGFF's multiscales metadata; give one with it, or a zarr array inside it"
        )
    first = found[0]
    array = group[first["datasets"][0]["path"]]
    named = first.get("axes") or "tczyx"[-array.ndim :]
    axes = "".join(axis["name"] if isinstance(axis, Mapping) else axis for axis in named)
    return ZarrImage(path, array, axes, first, str(inside.get("version") or first.get("version") or "0.4"))


def _check(image: ZarrImage) -> None:
    """Raise VolumeError for an array that is no image."""
    path, array, axes = image.path, image.array, image.axes
    if len(axes) != array.ndim or len(set(axes)) < len(axes) or not set(axes) <= _KNOWN or not {"x", "y"} <= set(axes):
        raise VolumeError(
            f"{path}: its axes are {', '.join(axes)} of shape {by(array.shape)}; x and y are needed, z, c and t may be"
        )
    if "t" in axes and array.shape[axes.index("t")] != 1:
        raise VolumeError(f"{path}: has {array.shape[axes.index('t')]} points in time; give one")
    if np.dtype(array.dtype).kind not in "iuf":
        raise VolumeError(f"{path}: holds {array.dtype}; real numbers are needed, so convert it")
    if 0 in array.shape:
        raise VolumeError(f"{path}: has shape {by(array.shape)}, so no voxels")
