"""The training loss: soft Dice plus binary cross-entropy, over real pixels only.

Kalkhof et al., "Med-NCA: Robust and Lightweight Segmentation with Neural Cellular Automata" (2023).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dice_bce(
    logits: Tensor,  # [B, K, *S]
    target: Tensor,  # [B, K, *S] 0 or 1
    valid: Tensor,  # [B, 1, *S] 0 where padded
    smooth: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """(Dice loss, cross-entropy), two scalars to be added.

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
