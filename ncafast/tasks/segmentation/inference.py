"""Segmenting one image: at the size that the model sees, and enlarged to the image's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ncafast.models import CascadeNCA
from ncafast.tasks.images import ImageError
from ncafast.tasks.planes import decide, padded, padded_size
from ncafast.tasks.segmentation.recipe import Array, Recipe
from ncafast.utils.seeds import mix


@dataclass(frozen=True, slots=True)
class Segmenter:
    """A cascade with what its input must look like. The last channels of its state are the logits of the classes."""

    model: CascadeNCA
    recipe: Recipe

    @classmethod
    def read(cls, model: CascadeNCA, metadata: dict[str, str]) -> Segmenter:
        """From a checkpoint. Raises ValueError, KeyError or TypeError for what does not fit."""
        recipe = Recipe.from_json(metadata["recipe"])
        rule = model.rules[0]
        if model.image_channels != 3 or rule.ndim != 2 or rule.channels < 3 + len(recipe.names):
            raise ValueError(f"a cascade of {rule.channels} channels is not one of {len(recipe.names)} classes")
        return cls(model, recipe)

    def logits(self, state: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., K, H, W]."""
        return state.narrow(-3, state.shape[-3] - len(self.recipe.names), len(self.recipe.names))

    @torch.no_grad()
    def probability(self, pixels: Array, *, seed: int = 0, runs: int = 1) -> Tensor:
        """Of each class, the mean over draws of firing cells: pixels [h, w, 3] uint8 -> [K, h, w] float32 on the CPU.

        Raises:
            MemoryError: the image needs more than is free.
        """
        image = self._input(pixels)
        total = torch.zeros(len(self.recipe.names), *pixels.shape[:2])
        for run in range(runs):
            logits = self.logits(self.model(image, seed=mix("predict", seed, run)))[0]
            total += logits[:, : pixels.shape[0], : pixels.shape[1]].sigmoid().float().cpu()
        return total / runs

    def labels(self, pixels: Array, *, seed: int = 0, runs: int = 1) -> Array:
        """Class numbers [H, W] uint8 of an image [H, W, 3] uint8 of any size."""
        small, _ = self.recipe.shrunk(pixels)
        probability = self.probability(small, seed=seed, runs=runs)[None]
        if small.shape != pixels.shape:
            probability = F.interpolate(probability, size=pixels.shape[:2], mode="bilinear")
        return decide(probability)[0].numpy()  # type: ignore[no-any-return]

    @torch.no_grad()
    def states(self, pixels: Array, *, seed: int = 0, every: int = 1) -> Sequence[Tensor]:
        """The logits [n, K, h, w] after every `every` steps of each level, as the first run of `probability` has
        them."""
        _, levels = self.model(self._input(pixels), seed=mix("predict", seed, 0), states=every)
        return [self.logits(states[:, 0]) for states in levels]

    def _input(self, pixels: Array) -> Tensor:
        """[1, 3, h', w'], padded so that every level's cells are whole, on the model's device."""
        size = [padded_size(side, self.model.scales[0]) for side in pixels.shape[:2]]
        device = next(self.model.parameters()).device
        return padded(self.recipe.scaled(pixels), size)[None].to(device)


def find_labels(segmenter: Segmenter, pixels: Array, name: str, *, seed: int, runs: int) -> Array:
    """`Segmenter.labels`, but an image that the model has no memory for raises ImageError."""
    try:
        return segmenter.labels(pixels, seed=seed, runs=runs)
    except MemoryError as error:
        raise ImageError(f"{name}: {error}") from None
