"""Boxes of a grid, and the cells around them that a few steps need."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import EllipsisType
from typing import NamedTuple

import torch
from torch import Tensor

Place = tuple[EllipsisType | slice, ...]


class Box(NamedTuple):
    """Cells [start, stop) per axis. Past an edge that wraps, coordinates go on below 0 and beyond the grid's size."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def size(self) -> tuple[int, ...]:
        """Cells per axis."""
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    def within(self, outer: Box) -> Place:
        """Index of this box in an array [..., *outer]."""
        corners = zip(self.start, self.stop, outer.start, strict=True)
        return (..., *(slice(start - origin, stop - origin) for start, stop, origin in corners))

    @property
    def place(self) -> Place:
        """Index of this box, which does not wrap, in an array of the whole grid [..., *S]."""
        return (..., *(slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True)))


def grown(core: Box, whole: Sequence[int], halo: Sequence[int], wraps: bool) -> Box:
    """The box with `halo` more cells on each side: cut at the grid's edge, or past it where the grid wraps.

    An axis that the box has all cells of stays as it is, since the rule's own padding does the rest there.
    """
    start, stop = [], []
    for lo, hi, size, cells in zip(core.start, core.stop, whole, halo, strict=True):
        entire = (lo, hi) == (0, size)
        start.append(lo if entire else lo - cells if wraps else max(0, lo - cells))
        stop.append(hi if entire else hi + cells if wraps else min(size, hi + cells))
    return Box(tuple(start), tuple(stop))


def runs(box: Box, whole: Sequence[int]) -> list[list[tuple[slice, slice]]]:
    """Per axis: (cells of the grid, cells of the box), more than one pair where the box wraps."""
    found = []
    for start, stop, size in zip(box.start, box.stop, whole, strict=True):
        pairs, at = [], start
        while at < stop:
            first = at % size
            count = min(size - first, stop - at)
            pairs.append((slice(first, first + count), slice(at - start, at - start + count)))
            at += count
        found.append(pairs)
    return found


def tiles(whole: Sequence[int], tile: Sequence[int]) -> list[Box]:
    """Boxes that cover a grid, row-major, of almost equal sizes that are nowhere larger than `tile`."""
    axes = []
    for size, cells in zip(whole, tile, strict=True):
        count = -(-size // cells)
        edges = [size * number // count for number in range(count + 1)]
        axes.append(list(itertools.pairwise(edges)))
    corners = itertools.product(*axes)
    return [Box(tuple(lo for lo, _ in corner), tuple(hi for _, hi in corner)) for corner in corners]


def read(x: Tensor, box: Box) -> Tensor:
    """The cells of a box of x [..., *S], differentiable."""
    axes, whole = len(box.start), x.shape[-len(box.start) :]
    for axis, pairs in enumerate(runs(box, whole)):
        dim = x.dim() - axes + axis
        parts = [x.narrow(dim, cells.start, cells.stop - cells.start) for cells, _ in pairs]
        x = parts[0] if len(parts) == 1 else torch.cat(parts, dim)
    return x


def add(total: Tensor, box: Box, part: Tensor) -> None:
    """Add a part [..., *box] to the cells of its box of total [..., *S], the transpose of `read`."""
    for pieces in itertools.product(*runs(box, total.shape[-len(box.start) :])):
        place: Place = (..., *(cells for cells, _ in pieces))
        own: Place = (..., *(cells for _, cells in pieces))
        total[place] += part[own].to(total)
