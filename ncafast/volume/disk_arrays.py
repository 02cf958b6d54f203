"""States on disk: memory maps, and arrays of zarr or what is like them.

A memory map gives back the pages of a box once they have been copied, so that its size does not count as memory of the
process.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from ncafast.volume import mapped
from ncafast.volume.array import Array, Extent
from ncafast.volume.boxes import Box
from ncafast.volume.numpy_array import NumpyArray, dtype_of


class MappedArray(NumpyArray):
    """A memory map of numpy, or a part of one."""

    on_disk = True

    def __init__(self, array: np.ndarray, mapping: mapped.Mapping) -> None:
        super().__init__(array)
        self.mapping: mapped.Mapping | None = mapping

    def _copy(self, values: np.ndarray, cells: Any) -> None:
        assert self.mapping is not None
        self.mapping.check_length()
        for to, part in mapped.pieces(values, self.array[cells]):
            to[...] = part
            self.mapping.give_back(part)

    def write(self, box: Box, values: Tensor) -> None:
        """As `Array.write`."""
        assert self.mapping is not None
        self.mapping.check_length()
        for part, new in mapped.pieces(self.array[box.place], values.numpy()):
            part[...] = new
            self.mapping.give_back(part)

    def scratch(self, shape: tuple[int, ...] | None = None) -> Array:
        """As `Array.scratch`."""
        assert self.mapping is not None
        return scratch_file(self.mapping.folder, shape or self.shape, self.array.dtype)

    def extents(self) -> list[Extent]:
        """As `Array.extents`."""
        assert self.mapping is not None
        (memory,) = super().extents()
        return [memory, Extent(*self.mapping.in_file(memory.start, memory.stop), memory.layout)]

    def reserve(self) -> None:
        """As `Array.reserve`."""
        assert self.mapping is not None
        super().reserve()
        self.mapping.reserve("out")

    def flush(self) -> None:
        """As `Array.flush`."""
        if self.mapping is not None:
            self.mapping.flush()

    def close(self) -> None:
        """As `Array.close`."""
        self.array, self.mapping = np.empty(0), None


class ChunkedArray(NumpyArray):
    """An array of zarr, or another one with shape, dtype and slices that is stored in chunks, such as those of h5py."""

    on_disk = True

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape, self.dtype = tuple(array.shape), dtype_of(array)
        self.grain = tuple(getattr(array, "shards", None) or getattr(array, "chunks", None) or self.shape)[2:]

    def scratch(self, shape: tuple[int, ...] | None = None) -> Array:
        """As `Array.scratch`."""
        return scratch_file(mapped.folder_of(self.array), shape or self.shape, np.dtype(self.array.dtype))

    def extents(self) -> list[Extent]:
        """As `Array.extents`."""
        inside = getattr(self.array, "name", None)
        where = getattr(self.array, "store_path", None) or (mapped.folder_of(self.array), inside)
        return [Extent(str(where), 0, 1, None)]

    def reserve(self) -> None:
        """As `Array.reserve`."""
        if getattr(self.array, "read_only", False):
            raise ValueError("out is read-only; open it with mode='r+', or give another array")


def scratch_file(folder: str, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """An array in a file of a folder that is gone when the array is closed, or the process ends."""
    array = mapped.temporary(folder, shape, dtype, math.prod(shape) * dtype.itemsize)
    mapping = mapped.find("scratch", array)
    assert mapping is not None
    return MappedArray(array, mapping)
