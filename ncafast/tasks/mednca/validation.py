"""Measuring a model on held-out volumes while it trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ncafast.tasks.mednca import planes
from ncafast.tasks.mednca.cache import CachedVolume
from ncafast.tasks.mednca.inference import Model, decide, dims_of, probabilities
from ncafast.tasks.mednca.metrics import dice
from ncafast.tasks.mednca.slices import Array, Recipe

Show = Callable[[CachedVolume, Array], None]


def validate(
    model: Model,
    volumes: Sequence[CachedVolume],
    recipe: Recipe,
    *,
    seed: int,
    group: int,
    shown: int,
    show: Show,
) -> tuple[dict[str, Any], bool]:
    """Mean Dice over the volumes: val_dice and, if there are several classes, val_dice_<label> of each, where the label
    is a name or a value.

    Also whether anything was found: False where the model labels no voxel of any volume, though some have labels.

    ``show`` gets an overlay of each of the first ``shown`` volumes. Without volumes all values are None.
    """
    values = recipe.values
    names = [f"val_dice_{recipe.name_of(value) if recipe.label_names else value}" for value in values]
    names = names if len(values) > 1 else []
    if not volumes:
        return dict.fromkeys(("val_dice", *names)), True
    model.eval()
    table = []
    finds = labelled = False
    for number, volume in enumerate(volumes):
        images, truth = volume.read(slice(None))
        found = decide(probabilities(model, images, seed=seed, group=group))
        finds, labelled = finds or bool(found.any()), labelled or bool(truth.any())
        scores = [dice((found == k).numpy(), (truth == k).numpy()) for k in range(1, len(values) + 1)]
        table.append(scores)
        if number < shown:
            title = f"{volume.name}, Dice of the volume {_mean(scores):.3f}"
            volumes_of = images[:, 0].numpy(), found.numpy(), truth.numpy()
            show(volume, planes.draw(recipe, dims_of(model), *volumes_of, volume.spacing, title))
    per_class = [_mean(column) for column in zip(*table, strict=True)]
    row = {"val_dice": _mean(per_class), **dict(zip(names, per_class, strict=False))}
    return row, finds or not labelled


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
