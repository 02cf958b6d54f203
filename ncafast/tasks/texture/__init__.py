"""Textures from one image: train, animate on any size, measure, and the study of how they move.

Each function takes one dataclass of options, from which the command line builds its own. The imaging packages are
imported when a function is called, so that `--help` needs none of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncafast.tasks import on_demand
from ncafast.tasks.texture.options import AnimateConfig, EvaluateConfig, StudyConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.texture.dynamics import Study, study
    from ncafast.tasks.texture.scores import Scores
    from ncafast.train import Result

__all__ = [
    "AnimateConfig",
    "EvaluateConfig",
    "Result",
    "Scores",
    "Study",
    "StudyConfig",
    "TrainConfig",
    "animate",
    "evaluate",
    "study",
    "train",
]


def train(options: TrainConfig) -> Result:
    """Train as configured, or continue the run in `options.output`.

    Raises:
        ValueError: options, a sample or a run folder that cannot be used.
        ModuleNotFoundError: the package of a loss is missing.
        TrainingStopped: the loss became infinite or NaN.
    """
    return on_demand.run("train", "texture", options)


def evaluate(options: EvaluateConfig) -> Scores:
    """Grow the texture from zeros, compare it with its sample, print the table, write scores and pictures.

    Raises:
        ValueError: options, a sample or a checkpoint that cannot be used.
    """
    return on_demand.run("evaluate", "texture", options)


def animate(options: AnimateConfig) -> Path:
    """Write an animation, or the last frame alone where the output's name ends in .png, and return its path.

    Raises:
        ValueError: options or a checkpoint that cannot be used.
        ModuleNotFoundError: the package that writes the format is missing.
    """
    return on_demand.run("animate", "texture", options)


def __getattr__(name: str) -> Any:
    homes = {"Result": "ncafast.train", "Scores": "scores", "Study": "dynamics", "study": "dynamics"}
    return on_demand.attribute(__name__, "texture", homes, name)
