"""How well a class was found in a volume, how sure the model itself is, and the mean over volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ncafast.losses.masks import Array, dice, hausdorff, iou


def score(prediction: Array, truth: Array, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Compare two boolean masks [S, H, W] whose voxels measure ``spacing`` mm: dice, iou and hd95_mm."""
    distance = hausdorff(prediction, truth, spacing)
    return {"dice": dice(prediction, truth), "iou": iou(prediction, truth), "hd95_mm": distance}


def quality(variance: Array, mean: Array) -> float:
    """NQM, the sum of the standard deviation over runs divided by the sum of their mean; high means doubtful.

    Kalkhof and Mukhopadhyay, "M3D-NCA: Robust 3D Segmentation with Built-in Quality Control" (MICCAI 2023), of
    probabilities (the published code takes logits, whose sum may be 0 or less). Where nothing was found at all, 0.

    Args:
        variance: of one class's probability over the runs, divided by their number, any shape.
        mean: of its probability over the runs, the same shape.
    """
    total = float(mean.sum(dtype=np.float64))
    return float(np.sqrt(variance).sum(dtype=np.float64)) / total if total else 0.0


def mean(values: Sequence[float]) -> float:
    """The mean, as exactly as floats can say it; the order does not matter."""
    return math.fsum(values) / len(values)
