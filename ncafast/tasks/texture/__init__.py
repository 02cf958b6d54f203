"""Textures from one image: train, animate on any size, measure, and the study of how they move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ncafast.tasks import on_demand
from ncafast.tasks.texture.options import AnimateConfig, EvaluateConfig, StudyConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.texture.dynamics import Study, study
    from ncafast.tasks.texture.scores import Scores
    from ncafast.train import Result

__all__ = [
    "AnimateConfig", "EvaluateConfig", "Result", "Scores", "Study", "StudyConfig", "TrainConfig",
    "animate", "evaluate", "study", "train",
]  # fmt: skip

train: Callable[[TrainConfig], Result] = on_demand.command("train", "texture")
evaluate: Callable[[EvaluateConfig], Scores] = on_demand.command("evaluate", "texture")
animate: Callable[[AnimateConfig], Path] = on_demand.command("animate", "texture")

__getattr__ = on_demand.attributes(
    __name__, Result="ncafast.train", Scores="scores", Study="dynamics", study="dynamics"
)
