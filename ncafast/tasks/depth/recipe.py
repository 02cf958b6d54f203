"""What a trained cascade needs to know of its input and of depth, kept in the checkpoint so that prediction needs no
options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ncafast.tasks.cascades import Array, ImageRecipe

NEAREST = 1e-3  # metres; the logarithm of less would mean too much


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(ImageRecipe):
    """Mean and spread of the logarithm of depth in metres, and a linear model of it to compare with."""

    log_mean: float = 0.0
    log_std: float = 1.0
    linear: tuple[float, ...] = (0.0,) * 6
    """Of the scaled logarithm: a constant, row and column from -1 to 1, and the three scaled colours."""

    def __post_init__(self) -> None:
        self.check()
        if not all(map(math.isfinite, (self.log_mean, self.log_std, *self.linear))) or self.log_std <= 0:
            raise ValueError(f"log_mean={self.log_mean}, log_std={self.log_std} and linear cannot be of depth")
        if len(self.linear) != 6:
            raise ValueError(f"linear={self.linear} has {len(self.linear)} numbers, and 6 are needed")

    def scaled_log(self, metres: Array) -> Array:
        """[...] float32 with mean 0 and spread 1 over the training set; 0 where the depth is unknown (NaN)."""
        values = (np.log(np.maximum(metres, NEAREST)) - self.log_mean) / self.log_std
        return np.nan_to_num(values, nan=0.0).astype(np.float32)

    def metres(self, scaled: Array) -> Array:
        """Depth in metres from its scaled logarithm, within what floats hold."""
        return np.exp(np.clip(scaled.astype(np.float64) * self.log_std + self.log_mean, -20, 20)).astype(np.float32)

    def linear_depth(self, pixels: Array) -> Array:
        """Metres [h, w] of pixels [h, w, 3] uint8, by the linear model."""
        return self.metres(np.tensordot(np.array(self.linear), self.features(pixels), 1))

    def constant_depth(self, pixels: Array) -> Array:
        """Metres [h, w], everywhere the training set's middle: the mean of its logarithms."""
        return self.metres(np.zeros(pixels.shape[:2]))

    def features(self, pixels: Array) -> Array:
        """What the linear model takes, [6, h, w] float64."""
        sides = (np.linspace(-1, 1, side) if side > 1 else np.zeros(1) for side in pixels.shape[:2])
        rows, columns = np.meshgrid(*sides, indexing="ij")
        return np.stack([np.ones_like(rows), rows, columns, *self.scaled(pixels).double().numpy()])


def fitted(recipe: Recipe, pixels: Sequence[Array], depths: Sequence[Array]) -> dict[str, float | tuple[float, ...]]:
    """The fields of a recipe that say of depth what these maps [h, w] do, with NaN where it is unknown.

    Raises:
        ValueError: all of it is unknown.
    """
    logs = np.concatenate([np.log(np.maximum(depth[np.isfinite(depth)], NEAREST)) for depth in depths])
    if not logs.size:
        raise ValueError("no training image has a pixel of known depth; see --max-depth and --depth-scale")
    mean, std = float(logs.mean(dtype=np.float64)), max(float(logs.std(dtype=np.float64)), 1e-3)
    squares, products = np.zeros((6, 6)), np.zeros(6)
    for image, depth in zip(pixels, depths, strict=True):
        known = np.isfinite(depth)
        features = recipe.features(image)[:, known]  # [6, n]
        squares += features @ features.T
        products += features @ ((np.log(np.maximum(depth[known], NEAREST)) - mean) / std)
    linear = np.linalg.lstsq(squares, products, rcond=None)[0]
    return {"log_mean": mean, "log_std": std, "linear": tuple(linear.tolist())}
