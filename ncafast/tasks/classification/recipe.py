"""What a trained classifier needs to know of its input, kept in the checkpoint so that prediction needs no options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ncafast.tasks import colours
from ncafast.tasks.options import ValueRange
from ncafast.utils.json_files import Jsonable


@dataclass(frozen=True, slots=True)
class Recipe(Jsonable):
    """Classes in the logits' order, size of the image, and how its colours are scaled."""

    classes: tuple[str, ...]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    steps: int
    """Steps of the automaton after which an image is classified."""
    value_range: ValueRange | Literal["earlier"] = "earlier"
    """How values of more than 8 bits become brightness; checkpoints of earlier versions do not say."""

    def __post_init__(self) -> None:
        colours.check_statistics(self.mean, self.std)
        if self.size < 2:
            raise ValueError(f"size={self.size} cannot be of images")

    @classmethod
    def of(
        cls, classes: Sequence[str], pixels: Tensor, steps: int, value_range: ValueRange | Literal["earlier"] = "format"
    ) -> Recipe:
        """Mean and spread of the training images' colours [N, size, size, 3] uint8, as shares of 255."""
        return cls(tuple(classes), pixels.shape[1], *colours.statistics(pixels.flatten(0, 2)), steps, value_range)

    def scaled(self, pixels: Tensor) -> Tensor:
        """[N, size, size, 3] uint8 -> [N, 3, size, size] float32 with mean 0 and spread 1 over the training set."""
        return colours.scaled(pixels, self.mean, self.std)
