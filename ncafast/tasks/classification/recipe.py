"""What a trained classifier needs to know of its input, kept in the checkpoint so that prediction needs no options."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ncafast.tasks.image_options import ValueRange


@dataclass(frozen=True, slots=True)
class Recipe:
    """Classes in the logits' order, size of the image, and how its colours are scaled."""

    classes: tuple[str, ...]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    steps: int
    """Steps of the automaton after which an image is classified."""
    value_range: ValueRange | Literal["earlier"] = "earlier"
    """How values of more than 8 bits become brightness; checkpoints of earlier versions do not say."""

    @classmethod
    def of(
        cls,
        classes: Sequence[str],
        pixels: Tensor,
        steps: int,
        value_range: ValueRange | Literal["earlier"] = "format",
    ) -> Recipe:
        """Mean and spread of the training images' colours [N, size, size, 3] uint8, as shares of 255."""
        values = pixels.double().flatten(0, 2) / 255
        mean, std = values.mean(0).tolist(), values.std(0, correction=0).clamp_min(1 / 255).tolist()
        return cls(tuple(classes), pixels.shape[1], tuple(mean), tuple(std), steps, value_range)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what `to_json` wrote. Raises ValueError, TypeError or LookupError if it is corrupt."""
        fields: dict[str, Any] = json.loads(text)
        for name in ("classes", "mean", "std"):
            fields[name] = tuple(fields[name])
        recipe = cls(**fields)
        numbers = (*recipe.mean, *recipe.std)
        if len(numbers) != 6 or not all(math.isfinite(value) for value in numbers) or min(recipe.std) <= 0:
            raise ValueError(f"mean={recipe.mean} and std={recipe.std} must be three finite numbers each")
        if not (isinstance(recipe.size, int) and recipe.size >= 2 and isinstance(recipe.steps, int)):
            raise ValueError(f"size={recipe.size} and steps={recipe.steps} must be whole numbers")
        if not all(isinstance(name, str) for name in recipe.classes):
            raise ValueError("classes must be text")
        if recipe.value_range not in (*get_args(ValueRange), "earlier"):
            raise ValueError(f"value_range={recipe.value_range!r} is unknown")
        return recipe

    def to_json(self) -> str:
        """As text for a checkpoint."""
        return json.dumps(asdict(self))

    def scaled(self, pixels: Tensor) -> Tensor:
        """[N, size, size, 3] uint8 -> [N, 3, size, size] float32 with mean 0 and spread 1 over the training set."""
        mean, std = (torch.tensor(values, device=pixels.device) for values in (self.mean, self.std))
        return ((pixels.float() / 255 - mean) / std).movedim(-1, 1)
