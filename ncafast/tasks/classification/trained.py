"""What a checkpoint holds beside the model: how its input must look, and the statistics that it normalises by."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch

from ncafast.models import MaxNCA
from ncafast.tasks.classification.inference import Classifier
from ncafast.tasks.classification.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Spec:
    """A classifier, and what its input must look like."""

    classifier: Classifier
    recipe: Recipe

    @classmethod
    def read(cls, model: MaxNCA, metadata: dict[str, str]) -> Spec:
        """From a checkpoint. Raises ValueError, KeyError or TypeError for what does not fit."""
        recipe = Recipe.from_json(metadata["recipe"])
        statistics = torch.tensor(json.loads(metadata["statistics"]), dtype=torch.float32)
        if not torch.isfinite(statistics).all():
            raise ValueError("statistics holds NaN or infinite values")
        if len(recipe.classes) != model.num_classes:
            raise ValueError(f"the model has num_classes={model.num_classes}, its recipe names {len(recipe.classes)}")
        if statistics.shape != (recipe.steps, 2, model.hidden_size):
            raise ValueError(f"statistics of shape {list(statistics.shape)} do not fit {recipe.steps} steps")
        return cls(Classifier(model, statistics), recipe)
