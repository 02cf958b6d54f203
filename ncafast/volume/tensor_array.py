"""A state in a tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from ncafast.volume.array import Array, Extent
from ncafast.volume.boxes import Box, read


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
