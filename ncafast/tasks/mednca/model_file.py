"""Checkpoints of this task: a MedNCA together with the recipe for its input, so that prediction
needs no options."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ncafast import checkpoint
from ncafast.models import MedNCA
from ncafast.tasks.mednca.run_folder import find_checkpoint
from ncafast.tasks.mednca.slices import Recipe


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model, what its input must look like, and how many slices it sees together."""

    model: MedNCA
    recipe: Recipe
    group: int
    path: Path


def save_model(path: Path, model: MedNCA, recipe: Recipe, group: int, **facts: Any) -> None:
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
    """Read a checkpoint, or the best one of a run folder. Raises ValueError if it is none of this
    task."""
    path = find_checkpoint(path)
    metadata = checkpoint.describe(path)
    if metadata.get("task") != "mednca":
        raise ValueError(f"{path}: is a checkpoint, but not of ncafast train mednca; give one that is")
    model = checkpoint.load(path).to(device)
    if not isinstance(model, MedNCA):
        raise ValueError(f"{path}: holds a {type(model).__name__}, not a MedNCA; give another checkpoint")
    return TrainedModel(model, Recipe.from_json(metadata["recipe"]), int(metadata["group"]), path)
