"""Growing: an image that grows from one cell, stays, and heals.

Each function takes one dataclass of options, from which the command line builds its own. The imaging packages are
imported when a function is called, so that `--help` needs none of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncafast.tasks import on_demand
from ncafast.tasks.growing.options import AnimateConfig, EvaluateConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.growing.regeneration import Healing
    from ncafast.train import Result

__all__ = ["AnimateConfig", "EvaluateConfig", "Healing", "Result", "TrainConfig", "animate", "evaluate", "train"]


def train(options: TrainConfig) -> Result:
    """Train as configured, or continue the run in `options.output`.

    Raises:
        ValueError: options, an image or a run folder that cannot be used.
        TrainingStopped: the loss became infinite or NaN.
    """
    return on_demand.run("train", "growing", options)


def evaluate(options: EvaluateConfig) -> Healing:
    """Grow, cut in five ways, let heal; print the table and write healing.json, steps.csv and healing.png.

    Raises:
        ValueError: options or a checkpoint that cannot be used.
    """
    return on_demand.run("evaluate", "growing", options)


def animate(options: AnimateConfig) -> Path:
    """Write an animation of growth and healing, and return its path.

    Raises:
        ValueError: options or a checkpoint that cannot be used.
    """
    return on_demand.run("animate", "growing", options)


def __getattr__(name: str) -> Any:
    homes = {"Healing": "ncafast.tasks.growing.regeneration", "Result": "ncafast.train"}
    return on_demand.attribute(__name__, "growing", homes, name)
