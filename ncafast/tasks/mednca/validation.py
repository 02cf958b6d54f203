"""Measuring a model on held-out volumes while it trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ncafast.models import MedNCA
from ncafast.tasks.mednca import pictures
from ncafast.tasks.mednca.cache import CachedVolume
from ncafast.tasks.mednca.inference import decide, probabilities
from ncafast.tasks.mednca.metrics import dice
from ncafast.tasks.mednca.slices import Array, Recipe

Show = Callable[[CachedVolume, Array], None]


def validate(
    model: MedNCA,
    volumes: Sequence[CachedVolume],
    recipe: Recipe,
    *,
    seed: int,
    group: int,
    shown: int,
    show: Show,
) -> dict[str, Any]:
    """Mean Dice over the volumes: val_dice and, if there are several classes, val_dice_<label> of each.

    ``show`` gets an overlay of each of the first ``shown`` volumes. Without volumes all values are None.
    """
    values = recipe.values
    names = [f"val_dice_{value}" for value in values] if len(values) > 1 else []
    if not volumes:
        return dict.fromkeys(("val_dice", *names))
    model.eval()
    table = []
    for number, volume in enumerate(volumes):
        images, truth = volume.read(slice(None))
        found = decide(probabilities(model, images, seed=seed, group=group))
        scores = [dice((found == k).numpy(), (truth == k).numpy()) for k in range(1, len(values) + 1)]
        table.append(scores)
        if number < shown:
            show(volume, _overlay(volume, recipe, images, found, truth, _mean(scores)))
    per_class = [_mean(column) for column in zip(*table, strict=True)]
    return {"val_dice": _mean(per_class), **dict(zip(names, per_class, strict=False))}


def _overlay(volume: CachedVolume, recipe: Recipe, images: Tensor, found: Tensor, truth: Tensor, score: float) -> Array:
    """The slice with the largest true label."""
    index = max(range(len(volume)), key=volume.foreground.__getitem__)
    return pictures.overlay(
        images[index, 0].numpy(),
        found[index].numpy(),
        truth[index].numpy(),
        names=[f"label {value}" for value in recipe.values],
        axis=recipe.axis,
        pixel=volume.spacing[1:],
        title=f"{volume.name}, slice {index}, Dice of the volume {score:.3f}",
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
