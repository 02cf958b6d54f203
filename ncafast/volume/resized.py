"""Boxes of grids that are made from arrays of another size: shrunk, enlarged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ncafast.half import widened
from ncafast.volume.array import Array
from ncafast.volume.boxes import Box

Resize = Callable[[Array, Box], Tensor]
"""(an array, a box of its resized grid, which does not wrap) -> the cells there [B, C, *box]"""


def same(array: Array, box: Box) -> Tensor:
    """A `Resize` that changes nothing."""
    return array.read(box)


def bilinear(size: Sequence[int]) -> Resize:
    """Bilinear interpolation to `size`, as `torch.nn.functional.interpolate` does it."""

    def resize(array: Array, box: Box) -> Tensor:
        cells = zip(array.shape[2:], size, box.start, box.stop, strict=True)
        taps = [_taps(n, whole, start, stop, array.dtype) for n, whole, start, stop in cells]
        read = Box(tuple(int(tap.low[0]) for tap in taps), tuple(int(tap.high[-1]) + 1 for tap in taps))
        found = widened(array.read(read))
        for axis, (low, high, share) in reversed(list(enumerate(taps))):  # the innermost first, as torch does
            start, weight = read.start[axis], share.to(found).view(-1, *[1] * (len(taps) - 1 - axis))
            a, b = (found.index_select(axis + 2, (index - start).to(found.device)) for index in (low, high))
            found = a * (1 - weight) + b * weight
        return found.to(array.dtype)

    return resize


def pooled(factor: int) -> Resize:
    """The largest of `factor` cells along each axis; of those that there are, at the end."""

    def resize(array: Array, box: Box) -> Tensor:
        stop = (min(factor * last, cells) for last, cells in zip(box.stop, array.shape[2:], strict=True))
        read = Box(tuple(factor * first for first in box.start), tuple(stop))
        return F.max_pool3d(array.read(read), factor, ceil_mode=True)

    return same if factor == 1 else resize


def repeated(factor: int) -> Resize:
    """Each cell `factor` times along each axis."""

    def resize(array: Array, box: Box) -> Tensor:
        read = Box(tuple(first // factor for first in box.start), tuple((last - 1) // factor + 1 for last in box.stop))
        found = array.read(read)
        for axis, (first, last) in enumerate(zip(box.start, box.stop, strict=True)):
            index = torch.arange(first, last, device=found.device) // factor - read.start[axis]
            found = found.index_select(axis + 2, index)
        return found

    return resize


class _Taps(NamedTuple):
    """The two cells that a cell lies between, and the share of the second one."""

    low: Tensor
    high: Tensor
    share: Tensor


def _taps(cells: int, size: int, start: int, stop: int, dtype: torch.dtype) -> _Taps:
    """For cells [start, stop) of an axis of `cells` cells that becomes one of `size`, rounded as torch rounds."""
    real = torch.float64 if dtype == torch.float64 else torch.float32
    ratio = (torch.tensor(cells, dtype=real) / size).double()
    at = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * ratio - 0.5  # a fused multiply-add, rounded once
    at = at.to(real).clamp(min=0)
    low = at.long().clamp(max=cells - 1)
    return _Taps(low, (low + 1).clamp(max=cells - 1), (at - low).clamp(0, 1))
