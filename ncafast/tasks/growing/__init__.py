"""Growing: an image that grows from one cell, stays, and heals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ncafast.tasks import on_demand
from ncafast.tasks.growing.options import AnimateConfig, EvaluateConfig, TrainConfig

if TYPE_CHECKING:
    from ncafast.tasks.growing.regeneration import Healing
    from ncafast.train import Result

__all__ = ["AnimateConfig", "EvaluateConfig", "Healing", "Result", "TrainConfig", "animate", "evaluate", "train"]

train: Callable[[TrainConfig], Result] = on_demand.command("train", "growing")
evaluate: Callable[[EvaluateConfig], Healing] = on_demand.command("evaluate", "growing")
animate: Callable[[AnimateConfig], Path] = on_demand.command("animate", "growing")

__getattr__ = on_demand.attributes(__name__, Healing="regeneration", Result="ncafast.train")
