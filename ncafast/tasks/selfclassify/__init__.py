"""Self-classifying digits: every cell of a handwritten digit says which digit it is part of, until all agree.

``train``, ``evaluate``, ``predict`` and ``animate`` each take one dataclass; the command line builds its options from
the same classes. The four are imported on first use, so that ``--help`` needs none of the imaging packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ncafast.tasks import on_demand
from ncafast.tasks.selfclassify.config import AnimateConfig, EvaluateConfig, PredictConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.selfclassify.animation import animate
    from ncafast.tasks.selfclassify.evaluation import Scores, evaluate
    from ncafast.tasks.selfclassify.prediction import predict
    from ncafast.tasks.selfclassify.training import Result, train

_HOME = {
    "train": "training",
    "Result": "training",
    "evaluate": "evaluation",
    "Scores": "evaluation",
    "predict": "prediction",
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
    return on_demand.attribute(__name__, "self-classifying", _HOME, name)
