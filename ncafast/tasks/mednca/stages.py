"""What the cells of one slice go through, level by level and step by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ncafast.models import MedNCA
from ncafast.tasks.mednca.inference import Model, model_input


@dataclass(frozen=True, slots=True)
class Stage:
    """The slice after one step."""

    level: str
    step: int
    steps: int
    """Of the level."""
    state: Tensor
    """The slice's cells, [C, H, W] at the image's size: those of coarse levels are shown enlarged."""


@torch.no_grad()
def stages(
    model: Model,
    images: Tensor,  # [S, C, H, W]
    index: int,
    *,
    every: int = 1,
    seed: int = 0,
) -> Iterator[Stage]:
    """The states of slice `index` after every `every` steps of each level, from the coarsest on.

    A 2-D model runs the slice alone, so the end may differ a little from a prediction; a 3-D model runs the volume.
    """
    height, width = images.shape[-2:]
    slices = images[index, None] if isinstance(model, MedNCA) else images
    _, levels = model(model_input(model, slices), seed=seed, states=every)
    if isinstance(model, MedNCA):
        factors, names = (model.scale, 1), ["coarse level", "fine level"]
    else:
        factors = tuple(model.scale_factor**level for level in reversed(range(model.levels)))
        names = [f"level {number} of {model.levels}" for number in range(1, model.levels + 1)]
    for name, states, steps, factor in zip(names, levels, model.steps, factors, strict=True):
        for number, state in enumerate(states[:, 0], start=1):  # [C, h, w], or [s, h, w, C] of a volume
            plane = state if isinstance(model, MedNCA) else state[index // factor].movedim(-1, 0)
            shown = plane.repeat_interleave(factor, 1).repeat_interleave(factor, 2)[:, :height, :width]
            yield Stage(name, number * every, steps, shown.float().cpu())
