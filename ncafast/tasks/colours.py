"""Colours of images as a model takes them: mean 0 and spread 1 over the training set, and varied in training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

RGB = tuple[float, float, float]
_UNKNOWN = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # of recipes that were not made of images
_EQUAL, _APART = 1e-4, 0.02  # differences between the statistics of colours, as shares of 255
_COLOURED = 8.0  # mean difference between the colours of a pixel, above what a camera makes of grey


def statistics(values: Tensor) -> tuple[RGB, RGB]:
    """Mean and spread of colours [N, 3] uint8, as shares of 255; the spread is never 0."""
    shares = values.double() / 255
    mean, std = shares.mean(0).tolist(), shares.std(0, correction=0).clamp_min(1 / 255).tolist()
    return tuple(mean), tuple(std)


def unlike(pixels: np.ndarray[Any, Any], mean: RGB, std: RGB) -> str:  # [H, W, 3] uint8
    """How an image plainly differs from those whose statistics these are, as a note; empty where it does not.

    Grey images have the same statistics in all colours, which images in colour hardly ever have.
    """
    if (mean, std) == _UNKNOWN:
        return ""
    spread = np.ptp(pixels, axis=-1)
    apart = max(max(values) - min(values) for values in (mean, std))
    if apart < _EQUAL and spread.mean() > _COLOURED:
        return "in colour, but the model was trained on grey images; is it the right model?"
    if apart > _APART and not spread.any():
        return "grey, but the model was trained on images in colour; is it the right model?"
    return ""


def check_statistics(mean: RGB, std: RGB) -> None:
    """Raise ValueError for what cannot be statistics of images."""
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ValueError(f"mean={mean} and std={std} cannot be of images")


def scaled(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """[..., H, W, 3] uint8 -> [..., 3, H, W] float32 with mean 0 and spread 1 over the training set."""
    centre, spread = (torch.tensor(values, device=pixels.device) for values in (mean, std))
    return ((pixels.float() / 255 - centre) / spread).movedim(-1, -3)


def tinted(images: Tensor, jitter: float, random: torch.Generator) -> Tensor:
    """Scaled images [B, 3, H, W] with another brightness and contrast of every colour, by about this share."""
    contrast, brightness = (jitter * torch.randn(len(images), 3, 1, 1, generator=random) for _ in range(2))
    return images * (1 + contrast.to(images)) + brightness.to(images)
