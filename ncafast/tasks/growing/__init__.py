"""Growing: an image that grows from one cell, stays, and heals.

``train``, ``evaluate`` and ``animate`` each take one dataclass; the command line builds its options from the same
classes. The three are imported on first use, so that ``--help`` needs none of the imaging packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ncafast.tasks import on_demand
from ncafast.tasks.growing.config import AnimateConfig, EvaluateConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.growing.animation import animate
    from ncafast.tasks.growing.evaluation import Healing, evaluate
    from ncafast.tasks.growing.training import Result, train

_HOME = {
    "train": "training",
    "Result": "training",
    "evaluate": "evaluation",
    "Healing": "evaluation",
    "animate": "animation",
}

__all__ = [
    "AnimateConfig",
    "EvaluateConfig",
    "Healing",
    "Result",
    "TrainConfig",
    "animate",
    "evaluate",
    "train",
]


def __getattr__(name: str) -> Any:
    return on_demand.attribute(__name__, "growing", _HOME, name)
