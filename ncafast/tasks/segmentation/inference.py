"""Segmenting one image: at the size that the model sees, and enlarged to the image's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ncafast.models import CascadeNCA
from ncafast.tasks.cascades import Array, Outputs
from ncafast.tasks.images import ImageError
from ncafast.tasks.planes import decide
from ncafast.tasks.segmentation.recipe import Recipe
from ncafast.uncertainty.result import Moments


@dataclass(frozen=True, slots=True)
class Segmenter:
    """A cascade whose outputs are the logits of the recipe's classes."""

    model: CascadeNCA
    recipe: Recipe

    @classmethod
    def read(cls, model: CascadeNCA, metadata: dict[str, str]) -> Segmenter:
        """From a checkpoint. Raises ValueError, KeyError or TypeError for what does not fit."""
        found = cls(model, Recipe.from_json(metadata["recipe"]))
        found.outputs.check()
        return found

    @property
    def outputs(self) -> Outputs:
        """The logits [K, h, w]."""
        return Outputs(self.model, self.recipe, len(self.recipe.names))

    def moments(self, pixels: Array, *, seed: int = 0, runs: int = 1) -> Moments:
        """Of each class's probability [K, H, W], as `Outputs.moments`."""
        return self.outputs.moments(pixels, torch.sigmoid, seed=seed, runs=runs)

    def labels(self, pixels: Array, *, seed: int = 0, runs: int = 1) -> Array:
        """Class numbers [H, W] uint8 of an image [H, W, 3] uint8 of any size."""
        return labels_of(self.moments(pixels, seed=seed, runs=runs))


def labels_of(moments: Moments) -> Array:
    """Class numbers [H, W] uint8 by the mean probability [K, H, W] of each class."""
    return decide(moments.mean[None])[0].numpy()  # type: ignore[no-any-return]


def find(segmenter: Segmenter, pixels: Array, name: str, *, seed: int, runs: int) -> Moments:
    """`Segmenter.moments`, but an image that the model has no memory for raises ImageError."""
    try:
        return segmenter.moments(pixels, seed=seed, runs=runs)
    except MemoryError as error:
        raise ImageError(f"{name}: {error}") from None
