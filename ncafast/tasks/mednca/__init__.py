"""Med-NCA on medical volumes: train on NIfTI pairs, write segmentations, score them.

Each function takes one dataclass of options, from which the command line builds its own. The imaging packages are
imported when a function is called, so that `--help` needs none of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncafast.tasks import on_demand
from ncafast.tasks.mednca.options import AnimateConfig, EvaluateConfig, PredictConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.mednca.prediction import Predictions
    from ncafast.tasks.mednca.scores import Scores
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
    return on_demand.run("train", "mednca", options)


def evaluate(options: EvaluateConfig) -> Scores:
    """Segment volumes, compare with their labels, print the table, write scores.csv and pictures.

    Raises:
        ValueError: no volume can be scored.
    """
    return on_demand.run("evaluate", "mednca", options)


def predict(options: PredictConfig) -> Predictions:
    """Segment an image or every image of a folder.

    The label map has the image's spatial shape, affine and header geometry; with a folder it gets the image's name, or
    that of the case where each modality is a file.

    Raises:
        ValueError: no image can be used.
    """
    return on_demand.run("predict", "mednca", options)


def animate(options: AnimateConfig) -> Path:
    """Write an animation of a slice as its segmentation appears, and return its path.

    Raises:
        ValueError: options or files that cannot be used.
    """
    return on_demand.run("animate", "mednca", options)


def __getattr__(name: str) -> Any:
    homes = {"Predictions": "prediction", "Result": "ncafast.train", "Scores": "scores"}
    return on_demand.attribute(__name__, "mednca", homes, name)
