"""What cascades of automata share: running one level, and the boxes that finer levels are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ncafast.models.base import RuleModule
from ncafast.nca import NCA
from ncafast.trace import States
from ncafast.values import shown

Box = tuple[int, ...]  # a cell's index, or a number of cells, along each spatial axis


class LevelOutput(NamedTuple):
    """What one level returns."""

    state: Tensor  # [B, C, *S]
    kept: Tensor | None  # [n, B, C, *S], as states= asks
    last: Tensor | None  # [last_steps, B, channels read, *S]


class CascadeOutput(NamedTuple):
    """What all levels return, one after the other."""

    state: Tensor  # [B, C, *S] of the finest level
    kept: list[Tensor]  # per level, coarse to fine, [n, B, C, *S of the level]; empty without states=
    last: Tensor | None  # of the finest level, as in LevelOutput


Level = RuleModule | NCA


def run_levels(
    levels: Sequence[Level],
    steps: Sequence[int],
    enter: Callable[[int, Tensor | None], Tensor],
    *,
    first_step: int,
    fire_masks: Sequence[Tensor | None] | None = None,
    last_steps: int = 0,
    **options: Any,
) -> CascadeOutput:
    """Run levels from coarse to fine; each draws its fire masks at the steps after those of the level before.

    Args:
        levels: their automata, coarse to fine.
        steps: of each level.
        enter: (number of the level, last state of the level before) -> first state [B, C, *S] of the level.
        first_step: absolute index of the coarsest level's first step.
        fire_masks: one for each level, or None for drawn ones.
        last_steps: of the finest level, as in `run_level`.
        **options: of `run_level`.
    """
    masks = [None] * len(levels) if fire_masks is None else fire_masks
    kept, state, last = [], None, None
    for number, (level, count, mask) in enumerate(zip(levels, steps, masks, strict=True)):
        shown = last_steps if number == len(levels) - 1 else 0
        where: dict[str, Any] = {"first_step": first_step, "fire_mask": mask, "last_steps": shown}
        state, states, last = run_level(level, enter(number, state), count, **where, **options)
        first_step += count
        if states is not None:
            kept.append(states)
    assert state is not None
    return CascadeOutput(state, kept, last)


def run_level(
    level: Level,
    state: Tensor,  # [B, C, *S]
    steps: int,
    *,
    first_step: int,
    fire_mask: Tensor | None,
    states: States = None,
    last_steps: int = 0,
    read: slice = slice(None),
    **options: Any,
) -> LevelOutput:
    """Run one level; with last_steps, keep the channels `read` of the states after each of the last so many steps.

    These steps run one at a time, to the same bits, so that no whole states are kept for them.
    """
    head = steps - last_steps
    advance = _stepper(level)

    def run(state: Tensor, first: int, count: int, states: States) -> tuple[Tensor, Tensor | None]:
        mask = None if fire_mask is None else fire_mask if count == steps else fire_mask[first : first + count]
        where: dict[str, Any] = {"first_step": first_step + first, "fire_mask": mask, "states": states}
        return advance(state, count, **where, **options)

    state, kept = run(state, 0, head, states)
    seen = []
    for step in range(head, steps):
        state, _ = run(state, step, 1, None)
        seen.append(state[:, read])
    return LevelOutput(state, kept, torch.stack(seen) if seen else None)


def _stepper(level: Level) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """(state [B, C, *S], steps, options of a rollout) -> (last state, kept states); reads the level's layers once."""
    if isinstance(level, NCA):
        return lambda state, steps, **options: _with_kept(level(state, steps, **options))
    rule = level.rule
    params = level._tensors(rule)
    return lambda state, steps, **options: level._run(state, rule, params, steps, **options)


def _with_kept(done: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
    return done if isinstance(done, tuple) else (done, None)


def check_last(last_steps: int, steps: int, states: States) -> None:
    """Raise ValueError unless the finest level can show its last steps."""
    if not 0 <= last_steps <= steps:
        raise ValueError(f"last_steps={shown(last_steps)} is not allowed: the finest level takes {steps} steps")
    if last_steps and states is not None:
        raise ValueError("give either states= or last_steps=, not both")


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
