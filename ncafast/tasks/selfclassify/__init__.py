"""Self-classifying digits: every cell of a handwritten digit says which digit it is part of, until all agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ncafast.tasks import on_demand
from ncafast.tasks.selfclassify.options import AnimateConfig, EvaluateConfig, PredictConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.selfclassify.prediction import Predictions
    from ncafast.tasks.selfclassify.scores import Scores
    from ncafast.train import Result

__all__ = [
    "AnimateConfig", "EvaluateConfig", "PredictConfig", "Predictions", "Result", "Scores",
    "TrainConfig", "animate", "evaluate", "predict", "train",
]  # fmt: skip

train: Callable[[TrainConfig], Result] = on_demand.command("train", "selfclassify")
evaluate: Callable[[EvaluateConfig], Scores] = on_demand.command("evaluate", "selfclassify")
predict: Callable[[PredictConfig], Predictions] = on_demand.command("predict", "selfclassify")
animate: Callable[[AnimateConfig], Path] = on_demand.command("animate", "selfclassify")

__getattr__ = on_demand.attributes(__name__, Predictions="prediction", Result="ncafast.train", Scores="scores")
