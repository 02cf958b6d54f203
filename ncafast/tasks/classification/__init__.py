"""Image classification with MaxNCA: train on image folders, lists or .npz files, score, and look inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ncafast.tasks import on_demand
from ncafast.tasks.classification.options import AnimateConfig, EvaluateConfig, PredictConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.classification.prediction import Predictions
    from ncafast.tasks.classification.scores import Scores
    from ncafast.train import Result

__all__ = [
    "AnimateConfig", "EvaluateConfig", "PredictConfig", "Predictions", "Result", "Scores",
    "TrainConfig", "animate", "evaluate", "predict", "train",
]  # fmt: skip

train: Callable[[TrainConfig], Result] = on_demand.command("train", "classification")
evaluate: Callable[[EvaluateConfig], Scores] = on_demand.command("evaluate", "classification")
predict: Callable[[PredictConfig], Predictions] = on_demand.command("predict", "classification")
animate: Callable[[AnimateConfig], Path] = on_demand.command("animate", "classification")

__getattr__ = on_demand.attributes(__name__, Predictions="prediction", Result="ncafast.train", Scores="scores")
