"""Steps of a part of a grid, equal to those that a rollout of the whole grid does there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ncafast.rule import Rule
from ncafast.trace import Memory, Options, Trace, trace_at_once
from ncafast.volume.boxes import Box, read
from ncafast.volume.masks import fire_masks


def steps_of_part(
    x: Tensor,  # [B, C, *box], the cells of `box`
    box: Box,  # `core` and the cells around it that `steps` steps need, see `boxes.grown`
    core: Box,
    whole: Sequence[int],  # cells of the grid
    rule: Rule,  # of which nothing is measured on the whole grid, see `moments`
    params: Mapping[str, Tensor],
    steps: int,
    seed: Tensor,  # [1] int64, on x's device
    *,
    first_step: int = 0,
    first_sample: int = 0,
    extra: Tensor | None = None,  # of the whole grid, [B or 1, E, *(S or 1)] or with a leading axis T
    memory: Memory = "states",
    backend: str | None = None,
) -> Tensor:  # [B, C, *core]
    """The core's state after some steps. Differentiable in x, every parameter and extra."""
    here = None if extra is None else extra_of(extra, box)
    options = Options(first_step, first_sample, seed, None, here, None, memory, backend)
    return trace_of_box(x, box, whole, rule, params, steps, options).out[core.within(box)]


def trace_of_box(
    x: Tensor,  # [B, C, *box]
    box: Box,
    whole: Sequence[int],
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    options: Options,  # with a seed [1], and extra channels and fire masks of the box
) -> Trace:
    """A rollout of a box as if it were all, but for fire masks that are drawn: those of the whole grid there."""
    seed, first_step, first_sample = options.seed, options.first_step, options.first_sample
    assert isinstance(seed, Tensor)
    entire = box == Box((0,) * len(whole), tuple(whole))  # whose masks a backend draws itself
    if options.fire_mask is None and not entire:
        masks = fire_masks(rule, box, whole, x.shape[0], steps, seed, first_step=first_step, first_sample=first_sample)
        options = options._replace(fire_mask=masks)
    return trace_at_once(x, rule, params, steps, options)


def extra_of(extra: Tensor, box: Box) -> Tensor:
    """Extra channels of a box; axes of length 1 stand for all cells."""
    axes = len(box.start)
    sizes = extra.shape[extra.dim() - axes :]
    for axis, size in enumerate(sizes):
        if size > 1:
            dim = extra.dim() - axes + axis
            extra = read(extra.movedim(dim, -1), Box((box.start[axis],), (box.stop[axis],))).movedim(-1, dim)
    return extra
