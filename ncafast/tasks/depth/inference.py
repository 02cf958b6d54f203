"""The depth of one image: at the size that the model sees, and enlarged to the image's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ncafast.models import CascadeNCA
from ncafast.tasks.cascades import Array, Outputs
from ncafast.tasks.depth.recipe import Recipe
from ncafast.tasks.images import ImageError


@dataclass(frozen=True, slots=True)
class Estimator:
    """A cascade whose output is the scaled logarithm of the depth."""

    model: CascadeNCA
    recipe: Recipe

    @classmethod
    def read(cls, model: CascadeNCA, metadata: dict[str, str]) -> Estimator:
        """From a checkpoint. Raises ValueError, KeyError or TypeError for what does not fit."""
        found = cls(model, Recipe.from_json(metadata["recipe"]))
        found.outputs.check()
        return found

    @property
    def outputs(self) -> Outputs:
        """The scaled logarithm [1, h, w]."""
        return Outputs(self.model, self.recipe, 1)

    def depth(self, pixels: Array, *, seed: int = 0, runs: int = 1) -> Array:
        """Metres [H, W] float32 of an image [H, W, 3] uint8 of any size, the mean of the logarithms over draws of
        firing cells. Raises MemoryError for an image that needs more than is free."""
        small = self.recipe.shrunk(pixels)
        found = sum((self.outputs.run(small, seed=seed, run=run) for run in range(runs)), torch.zeros(())) / runs
        if small.shape != pixels.shape:
            found = F.interpolate(found[None], size=pixels.shape[:2], mode="bilinear")[0]
        return self.recipe.metres(found[0].numpy())


def find_depth(estimator: Estimator, pixels: Array, name: str, *, seed: int, runs: int) -> Array:
    """`Estimator.depth`, but an image that the model has no memory for raises ImageError."""
    try:
        return estimator.depth(pixels, seed=seed, runs=runs)
    except MemoryError as error:
        raise ImageError(f"{name}: {error}") from None
