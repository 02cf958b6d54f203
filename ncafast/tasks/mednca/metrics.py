"""Dice, IoU and Hausdorff 95 of one class in one volume, how sure the model itself is, and the training loss.

When neither truth nor prediction holds the class, they agree: Dice = IoU = 1, distance 0. When one of them alone does,
Dice = IoU = 0 and the distance is the volume's diagonal, the farthest two voxels can be apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor
from torchmetrics.functional.segmentation import dice_score, mean_iou

Array = np.ndarray[Any, Any]


def score(prediction: Array, truth: Array, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Compare two boolean masks [S, H, W] whose voxels measure ``spacing`` mm: dice, iou and hd95_mm."""
    distance = hausdorff(prediction, truth, spacing)
    return {"dice": dice(prediction, truth), "iou": iou(prediction, truth), "hd95_mm": distance}


def dice(prediction: Array, truth: Array) -> float:
    """2 |A and B| / (|A| + |B|)."""
    return _overlap(dice_score, prediction, truth)


def iou(prediction: Array, truth: Array) -> float:
    """|A and B| / |A or B|."""
    return _overlap(mean_iou, prediction, truth)


def hausdorff(prediction: Array, truth: Array, spacing: tuple[float, float, float], percentile: float = 95.0) -> float:
    """Distance in mm within which ``percentile`` % of either surface lies from the other.

    The larger of the two directed percentiles, as in MONAI. A mask's surface is its voxels with a face neighbour
    outside it; beyond the volume's edge is outside. A volume of one slice counts as 2-D. 100 gives the Hausdorff
    distance itself.
    """
    if not prediction.any() and not truth.any():
        return 0.0
    if not prediction.any() or not truth.any():
        return math.dist((0, 0, 0), [(n - 1) * mm for n, mm in zip(truth.shape, spacing, strict=True)])
    deep = [axis for axis, size in enumerate(truth.shape) if size > 1]  # one slice alone has no faces
    prediction, truth = prediction.squeeze(), truth.squeeze()
    spacing_of = [spacing[axis] for axis in deep]
    box = ndimage.find_objects((prediction | truth).astype(np.uint8))[0]  # the rest cannot matter, and costs time
    ours, theirs = (mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (prediction, truth))
    there = ndimage.distance_transform_edt(~theirs, sampling=spacing_of)[ours]
    back = ndimage.distance_transform_edt(~ours, sampling=spacing_of)[theirs]
    return float(max(np.percentile(there, percentile), np.percentile(back, percentile)))


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


def dice_bce(
    logits: Tensor,  # [B, K, *S]
    target: Tensor,  # [B, K, *S] 0 or 1
    valid: Tensor,  # [B, 1, *S] 0 where padded
    smooth: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """The training loss over real pixels: (Dice loss, cross-entropy), two scalars to be added.

    Kalkhof et al., "Med-NCA: Robust and Lightweight Segmentation with Neural Cellular Automata" (2023).

    Dice loss of a class: 1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth) with p = sigmoid(logits), sums over the
    whole batch; then the mean over classes. Cross-entropy: the mean over valid pixels and classes.
    """
    probability = logits.sigmoid() * valid
    truth = target * valid
    over = (0, *range(2, logits.dim()))
    overlap = (probability * truth).sum(over)  # [K]
    total = probability.sum(over) + truth.sum(over)
    dice = 1 - (2 * overlap + smooth) / (total + smooth)
    per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * valid
    pixels = valid.sum() * logits.shape[1]
    return dice.mean(), per_pixel.sum() / pixels


def mean(values: Sequence[float]) -> float:
    """The mean, as exactly as floats can say it; the order does not matter."""
    return math.fsum(values) / len(values)


def _overlap(measure: Callable[..., Tensor], prediction: Array, truth: Array) -> float:
    """What torchmetrics measures of two masks; 1 where both are empty."""
    if not prediction.any() and not truth.any():
        return 1.0
    masks = (torch.from_numpy(np.ascontiguousarray(mask)).int()[None, None] for mask in (prediction, truth))
    return float(measure(*masks, num_classes=1, input_format="one-hot"))
