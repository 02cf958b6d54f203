"""Bytes that a cascade needs to segment images of a size, known before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ncafast import backends
from ncafast.footprint import Memory, kept_states, rollout_bytes
from ncafast.free_memory import free_memory, size_text
from ncafast.models.cascade import level_sizes
from ncafast.models.m3dnca import M3DNCA
from ncafast.models.mednca import MedNCA
from ncafast.rule import Rule

Cascade = MedNCA | M3DNCA


def cascade_bytes(model: Cascade, batch: int, size: Sequence[int]) -> int:
    """The most bytes that a cascade holds at once beside its images, without gradients: those of the finest level, its
    first state, what the level before leaves, and the logits with their probabilities.

    Args:
        model: on the device that counts.
        batch: images at once.
        size: cells along each axis.
    """
    rule = model.rules[-1]
    shape = (batch, rule.channels, *size)
    cells = 4 * batch * math.prod(size)
    logits = model.classes if isinstance(model, MedNCA) else model.output_channels
    scale = model.scale if isinstance(model, MedNCA) else model.scale_factor
    state = cells * rule.channels  # the finest level's first; as many enlarged channels while it is put together
    return (
        state
        + state // scale**rule.ndim
        + 3 * logits * cells
        + max(state, rollout_bytes(rule, shape, model.steps[-1], backend=backend_of(model, rule)))
    )


def training_bytes(
    model: Cascade, batch: int, size: Sequence[int], window: Sequence[int], memory: Memory = "states"
) -> int:
    """The most bytes that a training step holds at once beside its images: what all levels keep for backward, and what
    the largest of them needs while it runs.

    Args:
        model: on the device that counts.
        batch: images at once.
        size: cells of an image along each axis.
        window: cells of what an M3DNCA's levels but the coarsest see; a MedNCA's see all.
        memory: as for `ncafast.rollout`.
    """
    if isinstance(model, MedNCA):
        sizes = [[side // model.scale for side in size], list(size)]
    else:
        coarse = level_sizes(size, model.scale_factor, model.levels)[0]
        sizes = [list(coarse), *[list(window)] * (model.levels - 1)]
    kept, running, state = 0, 0, 0
    for rule, steps, sides in zip(model.rules, model.steps, sizes, strict=True):
        shape = (batch, rule.channels, *sides)
        state = 4 * math.prod(shape)
        history = kept_states(steps, 0, memory, True)[1] * state
        whole = rollout_bytes(rule, shape, steps, memory=memory, gradients=True, backend=backend_of(model, rule))
        # Once the next level has its first state, nothing needs what a level returns.
        kept, running = kept + history + state, max(running, whole - history - state)
    return kept + running + state


def fitting_batch(model: Cascade, most: int, size: Sequence[int]) -> int:
    """How many images of a size fit into what is free, at most so many.

    Raises:
        MemoryError: not one does; the line says what is needed, what there is, and what would fit.
    """
    free = free_memory(next(model.parameters()).device)
    if free is None:
        return most
    each = cascade_bytes(model, 1, size)
    if each <= free.bytes:
        return min(most, free.bytes // each)
    side = int((math.prod(size) * free.bytes / each) ** (1 / len(size)))
    cells, fits = ("x".join(map(str, sides)) for sides in (size, [side] * len(size)))
    raise MemoryError(
        f"segmenting {cells} cells needs {size_text(each)}, and {size_text(free.bytes)} is {free.by}; "
        f"what fits: {fits} cells"
    )


def backend_of(model: Cascade, rule: Rule) -> str:
    """The one that runs a level where the model is."""
    device = next(model.parameters()).device
    return backends.choose(rule, torch.empty((1, rule.channels, *(8,) * rule.ndim), device=device))
