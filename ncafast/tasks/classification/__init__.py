"""Image classification with MaxNCA: train on image folders, lists or .npz files, score, and look inside.

Each function takes one dataclass of options, from which the command line builds its own. The imaging packages are
imported when a function is called, so that `--help` needs none of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncafast.tasks import on_demand
from ncafast.tasks.classification.options import AnimateConfig, EvaluateConfig, PredictConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.classification.prediction import Predictions
    from ncafast.tasks.classification.scores import Scores
    from ncafast.train import Result

__all__ = [
    "AnimateConfig",
    "EvaluateConfig",
    "PredictConfig",
    "Predictions",
    "Result",
    "Scores",
    "TrainConfig",
    "animate",
    "evaluate",
    "predict",
    "train",
]


def train(options: TrainConfig) -> Result:
    """Train as configured, or continue the run in `options.output`.

    Raises:
        ValueError: options, data or a run folder that cannot be used.
        TrainingStopped: the loss became infinite or NaN.
    """
    return on_demand.run("train", "classification", options)


def evaluate(options: EvaluateConfig) -> Scores:
    """Classify images, compare with their labels, print the table, write scores.csv, predictions.csv, confusion.png.

    Raises:
        ValueError: no image can be scored.
    """
    return on_demand.run("evaluate", "classification", options)


def predict(options: PredictConfig) -> Predictions:
    """Classify an image or all images of a folder. The result for an image does not depend on the others.

    Raises:
        ValueError: no image can be used.
    """
    return on_demand.run("predict", "classification", options)


def animate(options: AnimateConfig) -> Path:
    """Write an animation of an image's channels over time, and return its path.

    Raises:
        ValueError: options or files that cannot be used.
    """
    return on_demand.run("animate", "classification", options)


def __getattr__(name: str) -> Any:
    homes = {"Predictions": "prediction", "Result": "ncafast.train", "Scores": "scores"}
    return on_demand.attribute(__name__, "classification", homes, name)
