"""Bytes that a cascade needs to segment images of a size, known before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ncafast import backends
from ncafast.footprint import rollout_bytes
from ncafast.free_memory import free_memory, size_text
from ncafast.models.m3dnca import M3DNCA
from ncafast.models.mednca import MedNCA

Cascade = MedNCA | M3DNCA


def cascade_bytes(model: Cascade, batch: int, size: Sequence[int]) -> int:
    """The most bytes that a cascade holds at once beside its images, without gradients: those of the finest level, its
    first state, what the level before leaves, and the logits with their probabilities.

    Args:
        model: on the device that counts.
        batch: images at once.
        size: cells along each axis.
    """
    rule, device = model.rules[-1], next(model.parameters()).device
    shape = (batch, rule.channels, *size)
    cells = 4 * batch * math.prod(size)
    backend = backends.choose(rule, torch.empty((1, rule.channels, *(8,) * rule.ndim), device=device))
    logits = model.classes if isinstance(model, MedNCA) else model.output_channels
    scale = model.scale if isinstance(model, MedNCA) else model.scale_factor
    states = cells * rule.channels + 3 * cells * rule.channels // scale**rule.ndim
    hidden = cells * rule.channels  # enlarged, while the first state is put together
    return states + 3 * logits * cells + max(hidden, rollout_bytes(rule, shape, model.steps[-1], backend=backend))


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
