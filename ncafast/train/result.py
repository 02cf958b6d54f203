"""What a training run comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncafast.train.job import Row


class TrainingStopped(RuntimeError):
    """Training cannot go on, because the loss is no longer a number."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has come to."""

    folder: Path
    best: Path
    """The checkpoint of the epoch with the highest `Job.score`."""
    last: Path
    best_epoch: int
    best_score: float
    history: tuple[Row, ...]
    """One row per epoch, as in history.csv and history.json."""
    train: tuple[str, ...] = ()
    """Names of the samples that were trained on."""
    held_out: tuple[str, ...] = ()
    """Names of those that were held out."""
    skipped: Sequence[Any] = ()
    """What was left out since it cannot be used, and why; see `Job.skipped`."""

    @property
    def measures(self) -> dict[str, Any]:
        """Of the best epoch: all that was measured on held-out samples or from validation, val_... by name."""
        return {name: value for name, value in self.history[self.best_epoch - 1].items() if name.startswith("val_")}

    def __getattr__(self, name: str) -> Any:
        """best_dice and the like, which results of some tasks had: val_dice of `measures`."""
        if name.startswith("best_"):
            measures = self.measures
            column = name.replace("best_", "val_", 1)
            if column in measures:
                return measures[column]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
