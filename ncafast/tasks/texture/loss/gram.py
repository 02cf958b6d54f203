"""Gram matrices: which features appear together (Gatys et al., "Texture Synthesis Using Convolutional Neural Networks",
2015)."""

from __future__ import annotations

from torch import Tensor


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
