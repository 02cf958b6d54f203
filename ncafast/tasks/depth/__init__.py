"""Depth from one colour image with a cascade: train on images and depth maps, write depth maps, score them.
Rendered rooms stand in for data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ncafast.tasks import on_demand
from ncafast.tasks.depth.options import AnimateConfig, EvaluateConfig, PredictConfig, RenderConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.depth.prediction import Predictions
    from ncafast.tasks.depth.rendering import render
    from ncafast.tasks.depth.scores import Scores
    from ncafast.train import Result

__all__ = [
    "AnimateConfig", "EvaluateConfig", "PredictConfig", "Predictions", "RenderConfig", "Result", "Scores",
    "TrainConfig", "animate", "evaluate", "predict", "render", "train",
]  # fmt: skip

train: Callable[[TrainConfig], Result] = on_demand.command("train", "depth")
evaluate: Callable[[EvaluateConfig], Scores] = on_demand.command("evaluate", "depth")
predict: Callable[[PredictConfig], Predictions] = on_demand.command("predict", "depth")
animate: Callable[[AnimateConfig], Path] = on_demand.command("animate", "depth")

__getattr__ = on_demand.attributes(
    __name__, Predictions="prediction", Result="ncafast.train", Scores="scores", render="rendering"
)
