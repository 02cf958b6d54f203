"""Accuracy, F1 and the confusion matrix, by torchmetrics."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)


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
