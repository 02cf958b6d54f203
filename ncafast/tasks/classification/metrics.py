"""How classes are judged: the training losses; accuracy, F1 and the confusion matrix, by torchmetrics."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from ncafast.losses import FocalLoss


@dataclass(frozen=True, slots=True)
class Metrics:
    """How well classes were found."""

    accuracy: float
    f1_weighted: float
    """Mean of the classes' F1, weighted by their number of images."""
    f1_macro: float
    """Plain mean of the F1 of all classes that occur, as truth or as prediction."""
    confusion: Tensor  # [K, K] int64, rows true, columns found


def measure(found: Tensor, labels: Tensor, classes: int) -> Metrics:
    """Compare class numbers [N] with the true ones [N]."""
    return Metrics(
        accuracy=multiclass_accuracy(found, labels, classes, average="micro").item(),
        f1_weighted=multiclass_f1_score(found, labels, classes, average="weighted").item(),
        f1_macro=multiclass_f1_score(found, labels, classes, average="macro").item(),
        confusion=multiclass_confusion_matrix(found, labels, classes),
    )


def classification_loss(
    kind: str,
    logits: Tensor,  # [B, K]
    labels: Tensor,  # [B] int64
    gamma: float = 2.0,
) -> Tensor:  # []
    """Cross-entropy, binary cross-entropy or focal loss.

    Args:
        kind: "cross-entropy"; "bce", sigmoid and binary cross-entropy over all K outputs, the mean over images and
            classes, as the MaxNCA notebook has it; or "focal", `ncafast.losses.FocalLoss`.
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
        return FocalLoss(gamma)(logits, labels)  # type: ignore[no-any-return]
    raise ValueError(f"loss={kind!r} is not allowed; give cross-entropy, bce or focal")
