"""How well a class was found in a volume, and the mean over volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ncafast.losses.masks import Array, dice, hausdorff, iou


def score(prediction: Array, truth: Array, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Compare two boolean masks [S, H, W] whose voxels measure ``spacing`` mm: dice, iou and hd95_mm."""
    distance = hausdorff(prediction, truth, spacing)
    return {"dice": dice(prediction, truth), "iou": iou(prediction, truth), "hd95_mm": distance}


def mean(values: Sequence[float]) -> float:
    """The mean, as exactly as floats can say it; the order does not matter."""
    return math.fsum(values) / len(values)
