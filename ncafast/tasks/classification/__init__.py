"""Image classification with MaxNCA: train on image folders, lists or .npz files, score, and look inside.

``train``, ``predict``, ``evaluate`` and ``animate`` each take one dataclass; the command line builds its options from
the same classes. The four are imported on first use, so that ``--help`` needs none of the imaging packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ncafast.tasks import on_demand
from ncafast.tasks.classification.config import AnimateConfig, EvaluateConfig, PredictConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.classification.animation import animate
    from ncafast.tasks.classification.evaluation import Scores, evaluate
    from ncafast.tasks.classification.prediction import predict
    from ncafast.tasks.classification.training import Result, train

_HOME = {
    "train": "training",
    "Result": "training",
    "predict": "prediction",
    "evaluate": "evaluation",
    "Scores": "evaluation",
    "animate": "animation",
}

__all__ = [
    "AnimateConfig",
    "EvaluateConfig",
    "PredictConfig",
    "Result",
    "Scores",
    "TrainConfig",
    "animate",
    "evaluate",
    "predict",
    "train",
]


def __getattr__(name: str) -> Any:
    return on_demand.attribute(__name__, "classification", _HOME, name)
