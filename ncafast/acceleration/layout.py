"""Which axis of a tensor is what: all lengths of a grid differ, which tells batch, space and channels apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ncafast.acceleration.errors import NotAccelerated

_LENGTHS = (11, 13, 9, 17, 19, 23, 29, 31, 37)  # of a grid that is measured: filters of 7 fit, and they differ
_BATCHES = (2, 3, 5, 7)


class Axes(NamedTuple):
    """Where batch, channels and space are in a tensor."""

    flat: tuple[int, bool] | None  # an axis that holds all of space, and whether the batch too
    order: tuple[int, ...]  # of the axes, when that one is taken apart: batch, channels, space

    def cells(self, t: Tensor, batch: int, sizes: Sequence[int]) -> Tensor:  # -> [B, channels, *S]
        """A tensor as [B, channels, *S]."""
        if self.flat is not None:
            t = t.unflatten(self.flat[0], (batch, *sizes) if self.flat[1] else tuple(sizes))
        t = t.permute(self.order)
        return t.reshape(batch, -1, *sizes) if t.dim() != len(sizes) + 2 else t


class Grid(NamedTuple):
    """The sizes that a step is traced with."""

    batch: int
    channels: int
    sizes: tuple[int, ...]
    channels_last: bool

    def inward(self, x: Tensor) -> Tensor:
        """The user's state as [B, C, *S]."""
        return x.movedim(-1, 1) if self.channels_last else x

    def outward(self, x: Tensor) -> Tensor:
        """[B, C, *S] as the user's state."""
        return x.movedim(1, -1).contiguous() if self.channels_last else x

    def cells(self, t: Tensor) -> Tensor:  # -> [B, channels, *S]
        """A tensor with values per cell, in whatever layout, as [B, channels, *S].

        Raises:
            NotAccelerated: its axes cannot be told apart.
        """
        return self.axes(t.shape).cells(t, self.batch, self.sizes)

    def axes(self, shape: torch.Size) -> Axes:
        """Which axis of a shape is what.

        Raises:
            NotAccelerated: they cannot be told apart.
        """
        flat = self._flat(shape)
        lengths = list(shape)
        if flat is not None:
            lengths[flat[0] : flat[0] + 1] = (self.batch, *self.sizes) if flat[1] else self.sizes
        order = []
        for length in (self.batch, *self.sizes):
            axes = [axis for axis, size in enumerate(lengths) if size == length]
            if len(axes) != 1:
                raise NotAccelerated(f"a tensor of shape {list(shape)} is not one value per cell and channel")
            order += axes
        channels = [axis for axis in range(len(lengths)) if axis not in order]
        return Axes(flat, (order[0], *channels, *order[1:]))

    def has_channel_axis(self, shape: torch.Size) -> bool:
        """Whether a shape is batch, space and one axis of channels, nothing flattened."""
        rest = list(shape)
        for length in (self.batch, *self.sizes):
            if length not in rest:
                return False
            rest.remove(length)
        return len(rest) == 1

    def _flat(self, shape: torch.Size) -> tuple[int, bool] | None:
        for axis, size in enumerate(shape):
            if size == self.batch * math.prod(self.sizes):
                return axis, True
            if size == math.prod(self.sizes) and len(self.sizes) > 1:
                return axis, False
        return None


def distinct_grid(module: nn.Module, channels: int, ndim: int, channels_last: bool) -> Grid:
    """A grid none of whose lengths is one of the module's own sizes."""
    taken = {size for tensor in module.state_dict().values() if isinstance(tensor, Tensor) for size in tensor.shape}
    taken |= {channels * k for k in range(1, 10)}
    free = [length for length in _LENGTHS if length not in taken]
    batch = next(size for size in (*_BATCHES, 41) if size not in taken)
    return Grid(batch, channels, tuple((free + list(_LENGTHS))[:ndim]), channels_last)
