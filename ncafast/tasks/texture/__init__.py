"""Textures from one image: train, animate on any size, measure, and the study of how they move.

``train``, ``animate``, ``evaluate`` and ``study`` each take one dataclass; the command line builds its options from the
same classes. The four are imported on first use, so that ``--help`` needs none of the imaging packages.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_HOME[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ncafast"):
            raise
        raise ModuleNotFoundError(
            f"the texture task needs the package {error.name!r}; run: pip install 'ncafast[tasks]'",
            name=error.name,
        ) from error
    return getattr(module, name)
