"""Self-classifying digits: every cell of a handwritten digit says which digit it is part of, until all agree.

Each function takes one dataclass of options, from which the command line builds its own. The imaging packages are
imported when a function is called, so that `--help` needs none of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncafast.tasks import on_demand
from ncafast.tasks.selfclassify.options import AnimateConfig, EvaluateConfig, PredictConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.selfclassify.prediction import Predictions
    from ncafast.tasks.selfclassify.scores import Scores
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
        ValueError: options, files or a run folder that cannot be used.
        TrainingStopped: the loss became infinite or NaN.
    """
    return on_demand.run("train", "selfclassify", options)


def evaluate(options: EvaluateConfig) -> Scores:
    """Classify test digits from fresh states; print the table and write scores and pictures.

    Raises:
        ValueError: options, files or a checkpoint that cannot be used.
    """
    return on_demand.run("evaluate", "selfclassify", options)


def predict(options: PredictConfig) -> Predictions:
    """Classify an image or every image of a folder; write digits.csv and a picture of each.

    Raises:
        ValueError: options, a checkpoint or an input that cannot be used; of a folder, only if no image can.
    """
    return on_demand.run("predict", "selfclassify", options)


def animate(options: AnimateConfig) -> Path:
    """Write an animation of digits whose cells come to agree, and return its path.

    Raises:
        ValueError: options, files or a checkpoint that cannot be used.
    """
    return on_demand.run("animate", "selfclassify", options)


def __getattr__(name: str) -> Any:
    homes = {"Predictions": "prediction", "Result": "ncafast.train", "Scores": "scores"}
    return on_demand.attribute(__name__, "selfclassify", homes, name)
