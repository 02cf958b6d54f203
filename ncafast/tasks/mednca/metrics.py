"""How well a class was found in a volume."""

from __future__ import annotations

from ncafast.losses.masks import Array, dice, hausdorff, iou


def score(prediction: Array, truth: Array, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Compare two boolean masks [S, H, W] whose voxels measure ``spacing`` mm: dice, iou and hd95_mm."""
    distance = hausdorff(prediction, truth, spacing)
    return {"dice": dice(prediction, truth), "iou": iou(prediction, truth), "hd95_mm": distance}
