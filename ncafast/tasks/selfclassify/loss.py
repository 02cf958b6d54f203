"""The two losses of Randazzo et al., "Self-classifying MNIST Digits" (Distill 2020), and of the CAX example."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ncafast.tasks.selfclassify.idx import CLASSES
from ncafast.tasks.selfclassify.states import ink, logits


def l2(states: Tensor, labels: Tensor) -> Tensor:  # [N, C, H, W], [N] -> []
    """Half the squared distance of all cells' logits from 1 for the digit and 0 otherwise, summed over the image, mean
    over the batch. Cells outside the digit are to have 0 everywhere."""
    wanted = F.one_hot(labels, CLASSES).to(states.dtype)[:, :, None, None] * ink(states[:, -1:])  # [N, 10, H, W]
    return (logits(states) - wanted).square().sum((1, 2, 3)).mean() / 2


def cross_entropy(states: Tensor, labels: Tensor) -> Tensor:  # [N, C, H, W], [N] -> []
    """Mean over the digit's inside cells, then over the batch."""
    inside = ink(states[:, -1])  # [N, H, W]
    wanted = labels[:, None, None].expand_as(inside)
    each = F.cross_entropy(logits(states), wanted, reduction="none") * inside  # [N, H, W]
    return (each.sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)).mean()


LOSSES = {"l2": l2, "cross-entropy": cross_entropy}
