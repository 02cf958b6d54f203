"""The training losses, each a mean over the images of a batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def classification_loss(
    kind: str,
    logits: Tensor,  # [B, K]
    labels: Tensor,  # [B] int64
    gamma: float = 2.0,
) -> Tensor:  # []
    """Cross-entropy, binary cross-entropy or focal loss.

    Args:
        kind: "cross-entropy"; "bce", sigmoid and binary cross-entropy over all K outputs, the mean over images and
            classes, as the MaxNCA notebook has it; or "focal", cross-entropy times (1 - p)^gamma with the probability p
            of the true class (Lin et al., "Focal Loss for Dense Object Detection", 2017).
        logits: one row per image.
        labels: the true classes.
        gamma: of the focal loss; 0 is cross-entropy.

    Raises:
        ValueError: another kind.
    """
    if kind == "cross-entropy":
        return F.cross_entropy(logits, labels)
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, F.one_hot(labels, logits.shape[1]).to(logits.dtype))
    if kind == "focal":
        entropy = F.cross_entropy(logits, labels, reduction="none")
        return ((1 - (-entropy).exp()) ** gamma * entropy).mean()
    raise ValueError(f"loss={kind!r} is not allowed; give cross-entropy, bce or focal")
