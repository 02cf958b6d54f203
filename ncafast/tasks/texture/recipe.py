"""What a checkpoint holds beside the model: the sample and the loss of its training. And how a state is a picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import get_args

import torch
from torch import Tensor

from ncafast.tasks.image_options import ValueRange

COLOURS = 3  # the first channels of the state; 0 in the state is middle grey
OFFSET = 0.5


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which sample a texture automaton was trained on, and with which loss."""

    image: str
    size: int
    crop: int | None
    loss: str
    value_range: ValueRange = "format"
    """How the sample's values of more than 8 bits became brightness."""

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """What `to_json` wrote. Raises ValueError or TypeError for anything else."""
        found = json.loads(text)
        recipe = cls(**found)
        kinds = ((recipe.image, str), (recipe.size, int), (recipe.loss, str))
        if recipe.value_range not in get_args(ValueRange):
            raise ValueError(f"value_range={recipe.value_range!r} is unknown")
        if not all(isinstance(value, kind) for value, kind in kinds) or not isinstance(recipe.crop, int | None):
            raise ValueError(f"recipe={text[:80]} does not fit")
        return recipe

    def to_json(self) -> str:
        """The recipe as text."""
        return json.dumps(asdict(self))


def fresh(count: int, channels: int, size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """States [count, channels, *size] to begin with: all zero, so that the firing cells alone break the symmetry."""
    return torch.zeros(count, channels, *size, device=device)


def picture_of(state: Tensor) -> Tensor:
    """The colours of states [B, C, H, W] as images [B, 3, H, W], from 0 to 1 where the automaton keeps to it.

    State beyond -1 and 1, where the loss on overflow begins, is cut off: a state that has left all bounds would
    outweigh every other one in a texture loss.
    """
    return state[:, :COLOURS].clamp(-1, 1) + OFFSET
