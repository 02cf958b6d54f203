"""Segmenting one image: at the size that the model sees, and enlarged to the image's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ncafast.tasks.cascades import Array, Outputs, Reader
from ncafast.tasks.planes import decide
from ncafast.tasks.segmentation.recipe import Recipe
from ncafast.tasks.stopping import Stopping
from ncafast.uncertainty.result import Moments


@dataclass(frozen=True)
class Segmenter(Reader[Recipe]):
    """A cascade whose outputs are the logits of the recipe's classes."""

    kind = Recipe

    @property
    def outputs(self) -> Outputs:
        """The logits [K, h, w]."""
        return Outputs(self.model, self.recipe, len(self.recipe.names))

    def moments(self, pixels: Array, *, seed: int = 0, runs: int = 1, stopping: Stopping | None = None) -> Moments:
        """Of each class's probability [K, H, W], as `Outputs.moments`."""
        return self.outputs.moments(pixels, torch.sigmoid, seed=seed, runs=runs, stopping=stopping)

    def labels(self, pixels: Array, *, seed: int = 0, runs: int = 1) -> Array:
        """Class numbers [H, W] uint8 of an image [H, W, 3] uint8 of any size."""
        return labels_of(self.moments(pixels, seed=seed, runs=runs))


def labels_of(moments: Moments) -> Array:
    """Class numbers [H, W] uint8 by the mean probability [K, H, W] of each class."""
    return decide(moments.mean[None])[0].numpy()  # type: ignore[no-any-return]
