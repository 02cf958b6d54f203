"""Label maps in zarr stores, written by slabs, with the axes and the scale of the image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ncafast.nifti import VolumeError
from ncafast.tasks.mednca.lazy import place_of
from ncafast.tasks.mednca.slices import Recipe
from ncafast.tasks.mednca.zarr_images import SPACE, ZarrImage, in_space, open_zarr

Array = np.ndarray[Any, Any]

_MARK = "written_by"  # an attribute of what ncafast wrote


class ZarrLabels:
    """A label map of the image's shape, uint8; along an axis of channels or time it has one.

    Of an OME-NGFF image it is an image-label group with one level, of a plain array a plain array.

    Args:
        path: of the new store.
        image: whose labels they are.
        recipe: says which values there are.
        name: what an image-label group is called.
    """

    def __init__(self, path: Path, image: ZarrImage, recipe: Recipe, name: str) -> None:
        import zarr

        self._axes, self._recipe, self._chunks = image.axes, recipe, image.grain
        shape, chunks = (
            tuple(int(size) if axis in SPACE else 1 for axis, size in zip(image.axes, sizes, strict=True))
            for sizes in (image.array.shape, image.array.chunks)
        )
        made: dict[str, Any] = {"shape": shape, "chunks": chunks, "dtype": "u1"}
        if image.multiscales is None:
            self._array = zarr.create_array(str(path), zarr_format=_format(image), **made)
            self._array.attrs[_MARK] = "ncafast"
        else:
            group = zarr.create_group(str(path), zarr_format=_format(image))
            self._array = group.create_array("0", **made)
            group.attrs.update(_metadata(image, recipe, name, path.parent))

    @property
    def grain(self) -> tuple[int, int, int]:
        """Those that are stored together, along S, H, W."""
        x, y, z = self._chunks
        sizes = [x, y, z]
        count = sizes.pop(self._recipe.slice_axis)
        return count, sizes[0], sizes[1]

    def write(self, numbers: slice, rows: slice, columns: slice, classes: Array) -> None:
        """Store class numbers [s, h, w] of some slices as label values."""
        values = self._recipe.to_volume(classes)
        where = dict(zip(SPACE, place_of(numbers, rows, columns, self._recipe), strict=True))
        sizes = [values.shape[SPACE.index(axis)] if axis in SPACE else 1 for axis in self._axes]
        there = [axis for axis in self._axes if axis in SPACE]
        kept = values[tuple(slice(None) if axis in there else 0 for axis in SPACE)]
        order = [axis for axis in SPACE if axis in there]
        stored = kept.transpose([order.index(axis) for axis in there]).reshape(sizes)
        self._array[tuple(where.get(axis, slice(0, 1)) for axis in self._axes)] = stored

    def read(self, place: tuple[slice, slice, slice]) -> Array:
        """Label values of a box, [X, Y, Z]."""
        where = dict(zip(SPACE, place, strict=True)) | {"t": 0, "c": 0}
        return in_space(np.asarray(self._array[tuple(where[axis] for axis in self._axes)]), self._axes)


@contextmanager
def new_store(path: Path) -> Iterator[Path]:
    """A folder beside `path` that takes its name once all is written; after an error what was there before is left."""
    scratch, old = (path.with_name(f".ncafast-{os.getpid()}{end}.zarr") for end in ("", "-old"))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield scratch
        if path.exists():
            path.rename(old)
        try:
            scratch.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_store(path: Path, image: Path, overwrite: bool) -> None:
    """Raise ValueError if a store would replace the image, or what ncafast did not write."""
    if path.resolve() == image.resolve():
        raise ValueError(f"{path}: would overwrite the image itself; choose another --output")
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise ValueError(f"--output: {path} is no folder; give another --output")
    try:
        open_zarr(path)
    except VolumeError:
        raise ValueError(f"--output: {path} exists and is no zarr image; give another --output") from None
    if _MARK not in _attributes(path) and not overwrite:
        raise ValueError(
            f"--output: {path} exists and was not written by ncafast; give another --output, or --overwrite to replace "
            "it"
        )


def _attributes(path: Path) -> Any:
    import zarr

    return zarr.open(str(path), mode="r").attrs


def _format(image: ZarrImage) -> Literal[2, 3]:
    return image.array.metadata.zarr_format  # type: ignore[no-any-return]


def _metadata(image: ZarrImage, recipe: Recipe, name: str, folder: Path) -> dict[str, Any]:
    """Attributes of an image-label group."""
    assert image.multiscales is not None
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": list(image.scale)}]}
    first = image.multiscales["datasets"][0].get("coordinateTransformations", ())
    level["coordinateTransformations"] += [change for change in first if change.get("type") == "translation"]  # type: ignore[operator]
    axes = image.multiscales.get("axes") or list(image.axes)
    scales = {"name": name, "axes": axes, "datasets": [level]}
    values = [{"label-value": v, "name": recipe.name_of(v)} for v in recipe.values]
    source = os.path.relpath(image.path.resolve(), folder.resolve())
    label = {"properties": values, "source": {"image": source}}
    if _format(image) == 2:
        versions = {"version": image.version}
        return {"multiscales": [scales | versions], "image-label": label | versions, _MARK: "ncafast"}
    ome = {"version": image.version, "multiscales": [scales], "image-label": label}
    return {"ome": ome, _MARK: "ncafast"}
