"""Checkpoints of this task: a MedNCA or M3DNCA together with the recipe for its input, so that
prediction needs no options."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ncafast import checkpoint
from ncafast.models import M3DNCA, MedNCA
from ncafast.tasks.mednca.config import Geometry
from ncafast.tasks.mednca.inference import Model
from ncafast.tasks.mednca.slices import Recipe
from ncafast.train.model_files import read_model

MOST_SCALE = 1024  # slices are padded to a multiple of it, which needs the memory of its square


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model, what its input must look like, and how many slices it sees together."""

    model: Model
    recipe: Recipe
    group: int
    path: Path

    def with_geometry(self, geometry: Geometry | None) -> TrainedModel:
        """The same model on volumes whose place is read otherwise than in training; None changes nothing."""
        return self if geometry is None else replace(self, recipe=replace(self.recipe, geometry=geometry))

    @property
    def dims(self) -> int:
        """2 for a model of slices, 3 for one of volumes."""
        return 2 if isinstance(self.model, MedNCA) else 3


def least_sides(model: Model) -> int:
    """Voxels that a volume needs along each side: at every level more than half a kernel, for reflect padding."""
    if isinstance(model, MedNCA):
        return 1
    factors = [model.scale_factor**level for level in reversed(range(model.levels))]
    return max(factor * (size // 2) + 1 for factor, size in zip(factors, model.kernel_size, strict=True))


def save_model(path: Path, model: Model, recipe: Recipe, group: int, **facts: Any) -> None:
    """Write a checkpoint; ``facts`` (epoch, Dice ...) are kept for people to read."""
    checkpoint.save(
        path,
        model,
        task="mednca",
        recipe=recipe.to_json(),
        group=str(group),
        facts=json.dumps(facts),
    )


def load_model(path: Path, device: torch.device) -> TrainedModel:
    """Read a checkpoint, or the best one of a run folder.

    Raises ValueError, one line that names the file, if it is none of this task or damaged.
    """

    def read(model: Model, metadata: dict[str, str]) -> tuple[Recipe, int]:
        recipe, group = Recipe.from_json(metadata["recipe"]), int(metadata["group"])
        _check(model, recipe, group)
        return recipe, group

    kinds: tuple[type[Model], ...] = (MedNCA, M3DNCA)
    model, (recipe, group), path = read_model(path, device, "mednca", kinds, read)
    return TrainedModel(model, recipe, group, path)


def _check(model: Model, recipe: Recipe, group: int) -> None:
    """Raise ValueError for what would only be noticed later, or never."""
    if isinstance(model, MedNCA) and model.scale > MOST_SCALE:
        raise ValueError(f"scale={model.scale} is not allowed: a whole number from 1 to {MOST_SCALE} is needed")
    if group < 1:
        raise ValueError(f"group={group} is not allowed: a whole number from 1 is needed")
    names = ("classes", "image_channels") if isinstance(model, MedNCA) else ("output_channels", "input_channels")
    for wanted, found in zip(names, (recipe.values, recipe.channels), strict=True):
        count = getattr(model, wanted)
        if len(found) != count:
            raise ValueError(f"the model has {wanted}={count}, but its recipe names {list(found)}")
