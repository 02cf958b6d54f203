"""A state in an array of numpy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncafast.volume import mapped
from ncafast.volume.array import Array, Extent
from ncafast.volume.boxes import Box, runs
from ncafast.volume.tensor_array import TensorArray

_DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


class NumpyArray(Array):
    """An array of numpy."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape, self.dtype, self.grain = array.shape, dtype_of(array), (1,) * (array.ndim - 2)

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


def dtype_of(array: Any) -> torch.dtype:
    """Of an array; bool for what is no floating point number that torch shares with numpy."""
    return _DTYPES.get(np.dtype(array.dtype).name, torch.bool)


def _copies(box: Box, whole: tuple[int, ...]) -> Iterator[tuple[Any, Any]]:
    """(cells of the grid, cells of the box), more than one pair where the box wraps."""
    for pairs in itertools.product(*runs(box, whole)):
        yield (..., *(cells for cells, _ in pairs)), (..., *(place for _, place in pairs))
