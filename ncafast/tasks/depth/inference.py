"""The depth of one image: at the size that the model sees, and enlarged to the image's own."""

from __future__ import annotations

from dataclasses import dataclass

from ncafast.models import CascadeNCA
from ncafast.tasks.cascades import Array, Outputs
from ncafast.tasks.depth.recipe import Recipe
from ncafast.tasks.images import ImageError
from ncafast.uncertainty.result import Moments


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

    def moments(self, pixels: Array, *, seed: int = 0, runs: int = 1) -> Moments:
        """Of the scaled logarithm [1, H, W], as `Outputs.moments`."""
        return self.outputs.moments(pixels, seed=seed, runs=runs)

    def depth(self, pixels: Array, *, seed: int = 0) -> Array:
        """Metres [H, W] float32 of an image [H, W, 3] uint8, by one draw of firing cells."""
        return self.recipe.metres(self.moments(pixels, seed=seed).mean[0].numpy())


def find(estimator: Estimator, pixels: Array, name: str, *, seed: int, runs: int) -> Moments:
    """`Estimator.moments`, but an image that the model has no memory for raises ImageError."""
    try:
        return estimator.moments(pixels, seed=seed, runs=runs)
    except MemoryError as error:
        raise ImageError(f"{name}: {error}") from None


def find_depth(estimator: Estimator, pixels: Array, name: str, *, seed: int, runs: int) -> Array:
    """Metres [H, W] float32, of the mean of the logarithms over runs. Raises ImageError as `find` does."""
    return estimator.recipe.metres(find(estimator, pixels, name, seed=seed, runs=runs).mean[0].numpy())
