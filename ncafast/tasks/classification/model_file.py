"""Checkpoints of this task: a MaxNCA with its recipe and the statistics it normalises by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ncafast import checkpoint
from ncafast.models import MaxNCA
from ncafast.tasks.classification.inference import Classifier
from ncafast.tasks.classification.recipe import Recipe
from ncafast.train.model_files import read_model


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A classifier, and what its input must look like."""

    classifier: Classifier
    recipe: Recipe
    path: Path


def save_model(path: Path, classifier: Classifier, recipe: Recipe, **facts: Any) -> None:
    """Write a checkpoint; ``facts`` (epoch ...) are kept for people to read."""
    checkpoint.save(
        path,
        classifier.model,
        task="classification",
        recipe=recipe.to_json(),
        statistics=json.dumps(classifier.statistics.tolist()),
        facts=json.dumps(facts),
    )


def load_model(path: Path, device: torch.device) -> TrainedModel:
    """Read a checkpoint, or the best one of a run folder.

    Raises ValueError, one line that names the file, if it is none of this task or damaged.
    """

    def read(model: MaxNCA, metadata: dict[str, str]) -> tuple[Recipe, torch.Tensor]:
        recipe = Recipe.from_json(metadata["recipe"])
        statistics = torch.tensor(json.loads(metadata["statistics"]), dtype=torch.float32)
        _check(model, recipe, statistics)
        return recipe, statistics

    model, (recipe, statistics), path = read_model(path, device, "classification", (MaxNCA,), read)
    return TrainedModel(Classifier(model, statistics), recipe, path)


def _check(model: MaxNCA, recipe: Recipe, statistics: torch.Tensor) -> None:
    """Raise ValueError for what would only be noticed later, or never."""
    if not torch.isfinite(statistics).all():
        raise ValueError("statistics holds NaN or infinite values")
    if len(recipe.classes) != model.num_classes:
        raise ValueError(f"the model has num_classes={model.num_classes}, its recipe names {len(recipe.classes)}")
    if statistics.shape != (recipe.steps, 2, model.hidden_size):
        raise ValueError(f"statistics of shape {list(statistics.shape)} do not fit {recipe.steps} steps")
