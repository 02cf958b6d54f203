"""States of a volume wherever they are: tensors, numpy arrays, memory maps, and zarr arrays or what is like them.

Each is read and written box by box. A memory map gives back the pages of a box once they have been copied, so that its
size does not count as memory of the process.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ncafast.volume import mapped
from ncafast.volume.boxes import Box, read, runs

_DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


class Extent(NamedTuple):
    """Bytes [start, stop) of a memory or file, and how cells lie there."""

    where: object
    start: int
    stop: int
    layout: object


class Array(ABC):
    """A state [B, C, *S].

    Attributes:
        shape: B, C, *S.
        dtype: as a torch dtype.
        device: where its numbers are.
        grain: cells per spatial axis that are stored together.
        on_disk: whether its numbers, and those of its scratch arrays, are kept outside memory.
        write_only: whether it cannot be read, so that passes before the last have to go elsewhere.
        own: bytes of memory that it will take while it is written, and has not taken yet.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    device = torch.device("cpu")
    grain: tuple[int, ...]
    on_disk = False
    write_only = False
    own = 0

    @abstractmethod
    def read(self, box: Box, pinned: bool = False) -> Tensor:
        """[B, C, *box]; a view where that is possible. Pinned: in memory that a GPU copies from."""

    @abstractmethod
    def write(self, box: Box, values: Tensor) -> None:
        """Store [B, C, *box] of a box that does not wrap."""

    @abstractmethod
    def scratch(self, shape: tuple[int, ...] | None = None) -> Array:
        """An array of this kind, of its shape or another one, whose numbers are gone when it is closed."""

    @abstractmethod
    def extents(self) -> list[Extent]:
        """Where its numbers are, in each way that can be compared."""

    def reserve(self) -> None:  # noqa: B027
        """Raise unless it can be written in full."""

    def flush(self) -> None:  # noqa: B027
        """Have what was written reach the disk."""

    def close(self) -> None:  # noqa: B027
        """Free a scratch array."""


class TensorArray(Array):
    """A tensor on any device."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()
        self.shape, self.dtype, self.device = tuple(tensor.shape), tensor.dtype, tensor.device
        self.grain = (1,) * (tensor.dim() - 2)

    def read(self, box: Box, pinned: bool = False) -> Tensor:
        """As `Array.read`."""
        found = read(self.tensor, box)
        return found.pin_memory() if pinned and self.device.type == "cpu" else found

    def write(self, box: Box, values: Tensor) -> None:
        """As `Array.write`."""
        self.tensor[box.place] = values

    def scratch(self, shape: tuple[int, ...] | None = None) -> Array:
        """As `Array.scratch`."""
        return TensorArray(torch.empty_like(self.tensor) if shape is None else self.tensor.new_empty(shape))

    def close(self) -> None:
        """As `Array.close`."""
        self.tensor = self.tensor.new_empty(0)

    def extents(self) -> list[Extent]:
        """As `Array.extents`."""
        last = sum((size - 1) * step for size, step in zip(self.shape, self.tensor.stride(), strict=True))
        start, item = self.tensor.data_ptr(), self.tensor.element_size()
        strides = tuple(step * item for step in self.tensor.stride())
        return [Extent(self.device, start, start + (last + 1) * item, (self.shape, strides))]

    def reserve(self) -> None:
        """As `Array.reserve`."""
        if any(size > 1 and step == 0 for size, step in zip(self.shape, self.tensor.stride(), strict=True)):
            raise ValueError("out is an expanded tensor, whose cells share memory; give out.contiguous()")


class NumpyArray(Array):
    """An array of numpy."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape, self.dtype, self.grain = array.shape, _dtype(array), (1,) * (array.ndim - 2)

    def read(self, box: Box, pinned: bool = False) -> Tensor:
        """As `Array.read`."""
        values = torch.empty((*self.shape[:2], *box.size), dtype=self.dtype, pin_memory=pinned)
        for cells, place in _copies(box, self.shape[2:]):
            self._copy(values.numpy()[place], cells)
        return values

    def _copy(self, values: np.ndarray, cells: Any) -> None:
        values[...] = self.array[cells]

    def write(self, box: Box, values: Tensor) -> None:
        """As `Array.write`."""
        self.array[box.place] = values.numpy()

    def scratch(self, shape: tuple[int, ...] | None = None) -> Array:
        """As `Array.scratch`."""
        return TensorArray(torch.empty(shape or self.shape, dtype=self.dtype))

    def extents(self) -> list[Extent]:
        """As `Array.extents`."""
        start, stop = mapped.bounds(self.array)
        return [Extent(self.device, start, stop, (self.shape, self.array.strides))]

    def reserve(self) -> None:
        """As `Array.reserve`."""
        if not self.array.flags.writeable:
            raise ValueError("out is read-only; open it with mode='r+', or give another array")


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
        self.shape, self.dtype = tuple(array.shape), _dtype(array)
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


def wrap(name: str, value: Any) -> Array:
    """The array of an argument.

    Raises:
        TypeError: it is none, or holds no floating point numbers.
    """
    if isinstance(value, Array):
        return value
    if isinstance(value, Tensor):
        return TensorArray(value)
    if isinstance(value, np.ndarray):
        mapping = mapped.find(name, value)
        array = NumpyArray(value) if mapping is None else MappedArray(value, mapping)
    elif all(hasattr(value, attribute) for attribute in ("shape", "dtype", "__getitem__")):
        array = ChunkedArray(value)
    else:
        raise TypeError(f"{name} must be a tensor, a numpy or a zarr array, got {type(value).__name__}")
    if not array.dtype.is_floating_point:
        raise TypeError(f"{name} must be float16, float32 or float64, got {value.dtype}; convert it with astype")
    return array


def shared(a: Array, b: Array) -> bool:
    """Whether two arrays are one and the same.

    Raises:
        ValueError: they share some numbers and are not the same.
    """
    for one, other in itertools.product(a.extents(), b.extents()):
        if one.where == other.where and one.start < other.stop and other.start < one.stop:
            if (one.start, one.layout) == (other.start, other.layout):
                return True
            raise ValueError("out shares some of source's memory; give source itself, or an array of its own")
    return False


def _dtype(array: Any) -> torch.dtype:
    return _DTYPES.get(np.dtype(array.dtype).name, torch.bool)


def _copies(box: Box, whole: tuple[int, ...]) -> Iterator[tuple[Any, Any]]:
    """(cells of the grid, cells of the box), more than one pair where the box wraps."""
    for pairs in itertools.product(*runs(box, whole)):
        yield (..., *(cells for cells, _ in pairs)), (..., *(place for _, place in pairs))


def scratch_file(folder: str, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """An array in a file of a folder that is gone when the array is closed, or the process ends."""
    array = mapped.temporary(folder, shape, dtype, math.prod(shape) * dtype.itemsize)
    mapping = mapped.find("scratch", array)
    assert mapping is not None
    return MappedArray(array, mapping)
