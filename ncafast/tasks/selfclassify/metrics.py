"""How cells are judged: the losses they are trained with, how many are right, and how many digits by their votes.

The losses are those of Randazzo et al., "Self-classifying MNIST Digits" (Distill 2020), and of the CAX example.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ncafast.tasks.selfclassify.idx import CLASSES
from ncafast.tasks.selfclassify.states import ink, logits


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts that add up over batches."""

    cells: int = 0
    cells_right: int = 0
    digits: int = 0
    votes_right: int = 0
    agreed: int = 0
    """Digits whose cells all say the same, right or wrong."""

    def __add__(self, other: Tally) -> Tally:
        names = self.__slots__
        return Tally(*(getattr(self, name) + getattr(other, name) for name in names))

    @property
    def cell_accuracy(self) -> float:
        """Part of all digits' cells that name the right digit."""
        return self.cells_right / max(self.cells, 1)

    @property
    def vote_accuracy(self) -> float:
        """Part of the digits for which most cells name the right one."""
        return self.votes_right / max(self.digits, 1)

    @property
    def agreement(self) -> float:
        """Part of the digits whose cells all name the same one."""
        return self.agreed / max(self.digits, 1)


def votes(states: Tensor) -> Tensor:
    """How many of a digit's own cells name each class: [N, 10] int64 of states [N, C, H, W]."""
    said = F.one_hot(logits(states).argmax(1), CLASSES)  # [N, H, W, 10]
    return (said * ink(states[:, -1])[..., None]).sum((1, 2))


def tally(states: Tensor, labels: Tensor) -> Tally:
    """Count for states [N, C, H, W] with labels [N]."""
    named = votes(states)  # [N, 10]
    right = named.gather(1, labels[:, None])[:, 0]
    total, most = named.sum(1), named.amax(1)
    return Tally(
        cells=int(total.sum()),
        cells_right=int(right.sum()),
        digits=len(labels),
        votes_right=int(((named.argmax(1) == labels) & (total > 0)).sum()),
        agreed=int(((most == total) & (total > 0)).sum()),
    )


def confusion(found: Tensor, labels: Tensor) -> Tensor:
    """[10, 10] int64: rows are the true digits, columns what the votes [N, 10] come to."""
    return torch.bincount(labels * CLASSES + found.argmax(1), minlength=CLASSES * CLASSES).view(CLASSES, CLASSES)


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
