"""What a checkpoint holds beside the model: the sample and the loss of its training. And how a state is a picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ncafast.tasks.options import ValueRange
from ncafast.utils.json_files import Jsonable

COLOURS = 3  # the first channels of the state; 0 in the state is middle grey
OFFSET = 0.5


@dataclass(frozen=True, slots=True)
class Recipe(Jsonable):
    """Which sample a texture automaton was trained on, and with which loss."""

    image: str
    size: int
    crop: int | None
    loss: str
    value_range: ValueRange = "format"
    """How the sample's values of more than 8 bits became brightness."""


def fresh(count: int, channels: int, size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """States [count, channels, *size] to begin with: all zero, so that the firing cells alone break the symmetry."""
    return torch.zeros(count, channels, *size, device=device)


def picture_of(state: Tensor) -> Tensor:
    """The colours of states [B, C, H, W] as images [B, 3, H, W], from 0 to 1 where the automaton keeps to it.

    State beyond -1 and 1, where the loss on overflow begins, is cut off: a state that has left all bounds would
    outweigh every other one in a texture loss.
    """
    return state[:, :COLOURS].clamp(-1, 1) + OFFSET
