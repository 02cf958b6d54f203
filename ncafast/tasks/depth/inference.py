"""The depth of one image: at the size that the model sees, and enlarged to the image's own."""

from __future__ import annotations

from dataclasses import dataclass

from ncafast.tasks.cascades import Array, Outputs, Reader
from ncafast.tasks.depth.recipe import Recipe
from ncafast.uncertainty.result import Moments


@dataclass(frozen=True)
class Estimator(Reader[Recipe]):
    """A cascade whose output is the scaled logarithm of the depth."""

    kind = Recipe

    @property
    def outputs(self) -> Outputs:
        """The scaled logarithm [1, h, w]."""
        return Outputs(self.model, self.recipe, 1)

    def metres(self, moments: Moments) -> Array:
        """[H, W] float32, from the mean of the scaled logarithm [1, H, W]."""
        return self.recipe.metres(moments.mean[0].numpy())
