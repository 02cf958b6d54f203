"""Focal losses: cross-entropy that looks most at what is found wrong.

Lin et al., "Focal Loss for Dense Object Detection" (2017): -alpha (1 - p)^gamma log p, with the probability p of the
true class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ncafast.losses.arguments import floats, maps, mean_over
from ncafast.values import number


class FocalLoss(nn.Module):
    """Focal loss of one class out of several (softmax): the mean of weight (1 - p)^gamma (-log p).

    Args:
        gamma: 0 is cross-entropy; the larger, the less count samples whose class is found.
        weight: of each class [K]. The mean is over the samples' number, not over the sum of their weights, with which
            `torch.nn.CrossEntropyLoss` divides.
    """

    weight: Tensor | None

    def __init__(self, gamma: float = 2.0, weight: Tensor | None = None) -> None:
        super().__init__()
        self.gamma = number("gamma", gamma, 0.0)
        if weight is not None and weight.dim() != 1:
            raise ValueError(f"weight of shape {list(weight.shape)} is not allowed: give one number per class")
        self.register_buffer("weight", weight, persistent=False)

    def forward(
        self,
        logits: Tensor,  # [B, K, *S]
        labels: Tensor,  # [B, *S] int64
    ) -> Tensor:  # []
        """The loss of logits and true class numbers."""
        logits = floats("logits", logits)
        entropy = cross_entropy(logits, labels, reduction="none")
        loss = _doubt((-entropy).exp()) ** self.gamma * entropy
        return (loss if self.weight is None else self.weight.to(loss)[labels] * loss).mean()

    def extra_repr(self) -> str:
        """The options."""
        return f"gamma={self.gamma:g}" + ("" if self.weight is None else f", classes={len(self.weight)}")


class BinaryFocalLoss(nn.Module):
    """Focal loss of each class by itself (sigmoid), the mean over cells and classes.

    Args:
        gamma: 0 is binary cross-entropy.
        alpha: weight of targets of 1, 0 to 1, those of 0 having 1 - alpha; None weighs neither.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__()
        self.gamma = number("gamma", gamma, 0.0)
        self.alpha = None if alpha is None else number("alpha", alpha, 0.0, 1.0)

    def forward(
        self,
        logits: Tensor,  # [B, K, *S]
        target: Tensor,  # [B, K, *S] 0 or 1
        valid: Tensor | None = None,  # [B, 1, *S] 0 where nothing counts
    ) -> Tensor:  # []
        """The loss of logits and true masks."""
        logits, target = maps("logits", logits, target, valid)
        entropy = binary_cross_entropy_with_logits(logits, target, reduction="none")
        probability = logits.sigmoid()
        loss = _doubt(probability * target + (1 - probability) * (1 - target)) ** self.gamma * entropy
        if self.alpha is not None:
            loss = (self.alpha * target + (1 - self.alpha) * (1 - target)) * loss
        return mean_over(loss, valid)

    def extra_repr(self) -> str:
        """The options."""
        return f"gamma={self.gamma:g}, alpha={self.alpha}"


def _doubt(probability: Tensor) -> Tensor:
    """1 - p, and never 0: the slope of 0^gamma is infinite for gamma below 1."""
    return (1 - probability).clamp_min(torch.finfo(probability.dtype).tiny)
