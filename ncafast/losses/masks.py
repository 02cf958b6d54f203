"""How far two hard masks agree: Dice, IoU and Hausdorff 95 of one class in one image or volume.

When neither truth nor prediction holds the class, they agree: Dice = IoU = 1, distance 0. When one of them alone does,
Dice = IoU = 0 and the distance is the grid's diagonal, the farthest two cells can be apart. Needs scipy and
torchmetrics (`pip install ncafast[tasks]`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torchmetrics.functional.segmentation import dice_score, mean_iou

Array = np.ndarray[Any, Any]


def dice(prediction: Array, truth: Array) -> float:
    """2 |A and B| / (|A| + |B|) of two boolean masks."""
    return _overlap(dice_score, prediction, truth)


def iou(prediction: Array, truth: Array) -> float:
    """|A and B| / |A or B| of two boolean masks."""
    return _overlap(mean_iou, prediction, truth)


def hausdorff(prediction: Array, truth: Array, spacing: Sequence[float], percentile: float = 95.0) -> float:
    """Distance within which ``percentile`` % of either surface lies from the other, in the unit of the spacing.

    The larger of the two directed percentiles, as in MONAI. A mask's surface is its cells with a face neighbour
    outside it; beyond the grid's edge is outside. A volume of one slice counts as 2-D.

    Args:
        prediction: boolean mask.
        truth: another of the same shape.
        spacing: size of a cell along each axis.
        percentile: 100 gives the Hausdorff distance itself.
    """
    if not prediction.any() and not truth.any():
        return 0.0
    if not prediction.any() or not truth.any():
        return math.dist([0] * truth.ndim, [(n - 1) * mm for n, mm in zip(truth.shape, spacing, strict=True)])
    deep = [axis for axis, size in enumerate(truth.shape) if size > 1]  # one slice alone has no faces
    prediction, truth = prediction.squeeze(), truth.squeeze()
    spacing_of = [spacing[axis] for axis in deep]
    box = ndimage.find_objects((prediction | truth).astype(np.uint8))[0]  # the rest cannot matter, and costs time
    ours, theirs = (mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (prediction, truth))
    there = ndimage.distance_transform_edt(~theirs, sampling=spacing_of)[ours]
    back = ndimage.distance_transform_edt(~ours, sampling=spacing_of)[theirs]
    return float(max(np.percentile(there, percentile), np.percentile(back, percentile)))


def _overlap(measure: Callable[..., Tensor], prediction: Array, truth: Array) -> float:
    """What torchmetrics measures of two masks; 1 where both are empty."""
    if not prediction.any() and not truth.any():
        return 1.0
    masks = (torch.from_numpy(np.ascontiguousarray(mask)).int()[None, None] for mask in (prediction, truth))
    return float(measure(*masks, num_classes=1, input_format="one-hot"))
