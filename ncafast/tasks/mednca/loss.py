"""The training loss: soft Dice plus binary cross-entropy, over real pixels only.

Kalkhof et al., "Med-NCA: Robust and Lightweight Segmentation with Neural Cellular Automata" (2023).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dice_bce(
    logits: Tensor,  # [B, K, H, W]
    target: Tensor,  # [B, K, H, W] 0 or 1
    valid: Tensor,  # [B, 1, H, W] 0 where padded
    smooth: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """(Dice loss, cross-entropy), two scalars to be added.

    Dice loss of a class: 1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth) with p =
    sigmoid(logits), sums over the whole batch; then the mean over classes. Cross-entropy: the mean
    over valid pixels and classes.
    """
    probability = logits.sigmoid() * valid
    truth = target * valid
    overlap = (probability * truth).sum((0, 2, 3))  # [K]
    total = probability.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    dice = 1 - (2 * overlap + smooth) / (total + smooth)
    per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * valid
    pixels = valid.sum() * logits.shape[1]
    return dice.mean(), per_pixel.sum() / pixels
