"""The fire masks of a part of a grid: those that a rollout of the whole grid draws there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ncafast import native, philox
from ncafast.rule import Rule
from ncafast.volume.boxes import Box


def fire_masks(
    rule: Rule,
    box: Box,
    whole: Sequence[int],
    batch: int,
    steps: int,
    seed: Tensor,  # [1] int64
    *,
    first_step: int = 0,
    first_sample: int = 0,
) -> Tensor | None:  # [T, B, 1, *box] bool
    """What `steps` steps draw for the cells of a box, on the seed's device; None where every cell fires.

    Coordinates of the box may lie outside the grid, see `boxes.Box`: they stand for the cells at the other side.
    """
    limit = philox.threshold(rule.fire_rate)
    philox.check_counter(batch, math.prod(whole), first_step + steps - 1 if steps else first_step, first_sample)
    if limit > philox.WORD:
        return None
    shape = (steps, batch, 1, *box.size)
    module = native.load()
    if seed.device.type != "cpu" or module is None:
        drawn = [
            philox.fire_mask_at(_places(box, whole, seed.device), batch, limit, seed, first_step + t, first_sample)
            for t in range(steps)
        ]
        return torch.stack(drawn).reshape(shape) if drawn else torch.empty(shape, dtype=torch.bool, device=seed.device)
    mask = torch.empty(shape, dtype=torch.bool)
    module.fire_masks(
        mask.data_ptr(), steps, batch, first_step, first_sample, int(seed) & (2**64 - 1), limit,
        _three(box.start, 0), _three(box.size, 1), _three(whole, 1),
    )  # fmt: skip
    return mask


def _three(values: Sequence[int], leading: int) -> list[int]:
    return [leading] * (3 - len(values)) + list(values)


def _places(box: Box, whole: Sequence[int], device: torch.device) -> Tensor:  # [cells of the box] int64
    """The cells' row-major places in the grid."""
    place = torch.zeros((), dtype=torch.int64, device=device)
    for start, stop, size in zip(box.start, box.stop, whole, strict=True):
        place = place[..., None] * size + torch.arange(start, stop, device=device) % size
    return place.flatten()
