"""Med-NCA on medical volumes: train on NIfTI pairs, write segmentations, score them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ncafast.tasks import on_demand
from ncafast.tasks.mednca.options import AnimateConfig, EvaluateConfig, PredictConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.mednca.prediction import Predictions
    from ncafast.tasks.mednca.scores import Scores
    from ncafast.train import Result

__all__ = [
    "AnimateConfig", "EvaluateConfig", "PredictConfig", "Predictions", "Result", "Scores",
    "TrainConfig", "animate", "evaluate", "predict", "train",
]  # fmt: skip

train: Callable[[TrainConfig], Result] = on_demand.command("train", "mednca")
evaluate: Callable[[EvaluateConfig], Scores] = on_demand.command("evaluate", "mednca")
predict: Callable[[PredictConfig], Predictions] = on_demand.command("predict", "mednca")
animate: Callable[[AnimateConfig], Path] = on_demand.command("animate", "mednca")

__getattr__ = on_demand.attributes(__name__, Predictions="prediction", Result="ncafast.train", Scores="scores")
