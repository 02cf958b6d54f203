"""Textures from one image: train, animate on any size, measure, and the study of how they move.

``train``, ``animate``, ``evaluate`` and ``study`` each take one dataclass; the command line builds its options from the
same classes. The four are imported on first use, so that ``--help`` needs none of the imaging packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ncafast.tasks import on_demand
from ncafast.tasks.texture.config import AnimateConfig, EvaluateConfig, StudyConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.texture.animation import animate
    from ncafast.tasks.texture.dynamics import Study, study
    from ncafast.tasks.texture.evaluation import Scores, evaluate
    from ncafast.tasks.texture.training import Result, train

_HOME = {
    "train": "training",
    "Result": "training",
    "animate": "animation",
    "evaluate": "evaluation",
    "Scores": "evaluation",
    "study": "dynamics",
    "Study": "dynamics",
}

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


def __getattr__(name: str) -> Any:
    return on_demand.attribute(__name__, "texture", _HOME, name)
