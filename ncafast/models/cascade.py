"""The grids of a cascade's levels, and the boxes that finer levels are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Box = tuple[int, ...]  # a cell's index, or a number of cells, along each spatial axis


@dataclass(frozen=True)
class Windows:
    """One box per sample and finer level, each inside the box of the level before: what a patch of training sees."""

    sizes: tuple[Box, ...]
    """Cells along each axis, per level from the second on; the same for all samples."""
    starts: tuple[tuple[Box, ...], ...]
    """First cells in the level's own grid, per level and sample."""


def level_sizes(size: Sequence[int], scale: int, levels: int) -> list[Box]:
    """Cells along each axis of every level, coarse to fine: a coarse cell covers `scale` finer ones, the last one may
    cover fewer."""
    return [tuple(-(-side // scale**level) for side in size) for level in reversed(range(levels))]


def draw_windows(
    size: Sequence[int],
    *,
    scale: int,
    levels: int,
    patch: Sequence[int],
    real: Sequence[Sequence[int]],
    generators: Sequence[torch.Generator | None],
) -> Windows:
    """Boxes at uniformly random places.

    Args:
        size: cells of the finest grid along each axis; multiples of scale**(levels - 1).
        scale: factor between two levels.
        levels: number of levels.
        patch: cells of a box along each axis, the same at every level; shorter axes are taken whole.
        real: per sample, the part of `size` from the start on that is not padding. Boxes keep inside it if they fit.
        generators: per sample, the random generator of its windows; None is torch's default one.

    Raises:
        ValueError: a size that is no such multiple.
    """
    whole = scale ** (levels - 1)
    if any(side % whole for side in size):
        raise ValueError(f"size={tuple(size)} cannot be cut into windows: pad each side to a multiple of {whole}")
    grids = level_sizes(size, scale, levels)
    sizes = [grids[0]]
    for grid in grids[1:]:
        sizes.append(tuple(min(p, g, scale * r) for p, g, r in zip(patch, grid, sizes[-1], strict=True)))
    places = []
    for inside, generator in zip(real, generators, strict=True):
        known = level_sizes(inside, scale, levels)
        starts: list[Box] = [(0,) * len(grids[0])]
        for level in range(1, levels):
            start = []
            for axis, cells in enumerate(sizes[level]):
                low = scale * starts[-1][axis]
                end = min(low + scale * sizes[level - 1][axis], known[level][axis])
                room = max(end - cells - low, 0)
                start.append(low + int(torch.randint(room + 1, (), generator=generator)))
            starts.append(tuple(start))
        places.append(starts[1:])
    return Windows(tuple(sizes[1:]), tuple(zip(*places, strict=True)))


def cut(tensor: Tensor, starts: Sequence[Box], size: Box) -> Tensor:
    """[B, C, *S] -> [B, C, *size], each sample from its own start."""
    if tuple(tensor.shape[2:]) == size:
        return tensor
    return torch.stack([_box(sample, start, size) for sample, start in zip(tensor, starts, strict=True)])


def enlarge(state: Tensor, scale: int | Box, size: Box) -> Tensor:
    """[B, C, *S] -> [B, C, *size]: every cell `scale` times along each axis; the last ones may be cut off."""
    factors = [float(factor) for factor in ([scale] * len(size) if isinstance(scale, int) else scale)]
    return _box(F.interpolate(state, scale_factor=factors, mode="nearest"), (0,) * len(size), size)


def enlarge_windows(state: Tensor, scale: int, starts: Sequence[Box], size: Box) -> Tensor:
    """`cut(enlarge(state), starts, size)` for starts in the enlarged grid, without enlarging what is cut off."""
    room = tuple(min(-(-(cells - 1) // scale) + 1, side) for cells, side in zip(size, state.shape[2:], strict=True))
    coarse = [
        tuple(min(s // scale, side - r) for s, side, r in zip(start, state.shape[2:], room, strict=True))
        for start in starts
    ]
    large = F.interpolate(cut(state, coarse, room), scale_factor=float(scale), mode="nearest")
    inside = [tuple(s - scale * c for s, c in zip(*pair, strict=True)) for pair in zip(starts, coarse, strict=True)]
    return cut(large, inside, size)


def _box(tensor: Tensor, start: Box, size: Box) -> Tensor:
    """A view of the last axes."""
    for axis, (first, cells) in enumerate(zip(start, size, strict=True)):
        tensor = tensor.narrow(axis - len(size), first, cells)
    return tensor
