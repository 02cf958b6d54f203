"""Segmenting one image: at the size that the model sees, and enlarged to the image's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ncafast.models import CascadeNCA
from ncafast.tasks.cascades import Array, Outputs
from ncafast.tasks.images import ImageError
from ncafast.tasks.planes import decide
from ncafast.tasks.segmentation.recipe import Recipe


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

    def probability(self, pixels: Array, *, seed: int = 0, runs: int = 1) -> Tensor:
        """Of each class, the mean over draws of firing cells: pixels [h, w, 3] uint8 -> [K, h, w] float32 on the CPU.

        Raises:
            MemoryError: the image needs more than is free.
        """
        total = torch.zeros(len(self.recipe.names), *pixels.shape[:2])
        for run in range(runs):
            total += self.outputs.run(pixels, seed=seed, run=run).sigmoid()
        return total / runs

    def labels(self, pixels: Array, *, seed: int = 0, runs: int = 1) -> Array:
        """Class numbers [H, W] uint8 of an image [H, W, 3] uint8 of any size."""
        small = self.recipe.shrunk(pixels)
        probability = self.probability(small, seed=seed, runs=runs)[None]
        if small.shape != pixels.shape:
            probability = F.interpolate(probability, size=pixels.shape[:2], mode="bilinear")
        return decide(probability)[0].numpy()  # type: ignore[no-any-return]


def find_labels(segmenter: Segmenter, pixels: Array, name: str, *, seed: int, runs: int) -> Array:
    """`Segmenter.labels`, but an image that the model has no memory for raises ImageError."""
    try:
        return segmenter.labels(pixels, seed=seed, runs=runs)
    except MemoryError as error:
        raise ImageError(f"{name}: {error}") from None
