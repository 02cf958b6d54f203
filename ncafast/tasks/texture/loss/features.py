"""Texture losses on VGG16 features: Gram matrices, or sliced optimal transport."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ncafast.losses.sliced import sliced_wasserstein, unit_directions
from ncafast.tasks.texture.loss.vgg import VGGFeatures


class FeatureLoss(nn.Module):
    """How far images are from a sample in what VGG16 sees, the mean over its layers.

    Args:
        sample: [3, H, W], values 0 to 1.
        weights: file of VGG16 weights; see `VGGFeatures`.
        kind: "gram", the Gram matrices (Gatys et al. 2015); or "sliced", the sliced Wasserstein distance of the feature
            vectors (Heitz et al. 2021) with as many random directions as a layer has features, at most `directions`.
        directions: see `kind`.

    Each layer's distance is a share of the sample's own: of the Gram matrix' mean square, or of the mean square of a
    feature; so every layer counts alike.
    """

    def __init__(
        self, sample: Tensor, weights: Path, kind: Literal["gram", "sliced"] = "sliced", directions: int = 32
    ) -> None:
        super().__init__()
        self.kind, self.directions = kind, directions
        self.features = VGGFeatures(weights)
        with torch.no_grad():
            target = {layer: found[0].flatten(1) for layer, found in self.features(sample[None]).items()}
        for layer, found in target.items():
            self.register_buffer(f"target{layer}", found, persistent=False)  # [C, N]

    @property
    def least_side(self) -> int:
        """Pixels that an image needs along each side: one is left of it after every pooling."""
        return 2 ** sum(isinstance(module, nn.MaxPool2d) for module in self.features.net)

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images [B, 3, H, W], values 0 to 1 -> loss [B]. `generator` is a CPU generator that draws the directions."""
        total = images.new_zeros(images.shape[0])
        for layer, found in self.features(images).items():
            target = self.get_buffer(f"target{layer}")
            points = found.flatten(2)  # [B, C, N]
            if self.kind == "gram":
                total = total + gram_distance(points, target)
                continue
            count = min(self.directions, len(target))
            lines = unit_directions(count, len(target), generator).to(points)
            size = target.square().mean().clamp_min(1e-12)
            total = total + sliced_wasserstein(points, target, lines) / size
        return total / len(self.features.layers)


def gram(features: Tensor) -> Tensor:
    """Mean products of features over all positions: features [B, C, N] -> [B, C, C], entry ij = sum_n f_i f_j / N."""
    return features @ features.transpose(1, 2) / features.shape[-1]


def gram_distance(
    features: Tensor,  # [B, C, N]
    target: Tensor,  # [C, M]
) -> Tensor:
    """Mean squared difference [B] of the Gram matrices, as a share of the target's own mean square."""
    wanted = gram(target[None])  # [1, C, C]
    return (gram(features) - wanted).square().mean((1, 2)) / wanted.square().mean().clamp_min(1e-12)
