"""What the training loop tells: a job of one training step and of an epoch's end, and its caller of the whole run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ncafast.train.drawing import Drawing
from ncafast.train.run_folder import RunFolder
from ncafast.train.tensorboard import Board
from ncafast.utils.seeds import generator, mix

_EARLIER = {"own": "micro_batch", "places": "indices"}


@dataclass(frozen=True)
class StepContext:
    """One training step, as a job sees it. Everything random in it is to come from here."""

    epoch: int
    """Epochs that are complete."""
    step: int
    """Training steps that are complete, over all epochs."""
    position: int
    """Samples that the epoch's earlier steps took."""
    numbers: Sequence[int]
    """The samples of the whole step, over all processes and micro-batches."""
    steps: int
    """Steps of the automaton, as drawn for this training step."""
    indices: range
    """Where in `numbers` the present micro-batch lies."""
    run_seed: int
    """The run's seed option."""
    memory: Literal["states", "sqrt"] | int = "states"
    kept: list[Tensor] = field(default_factory=list, compare=False)

    @property
    def seed(self) -> int:
        """Random seed of the fire masks of this step."""
        return mix("fire", self.run_seed, self.step)

    @property
    def options(self) -> dict[str, Any]:
        """For `ncafast.rollout` and every model: seed, first_sample and memory. With them the micro-batches, on
        however many processes, draw the masks that the whole batch would."""
        return {"seed": self.seed, "first_sample": self.indices.start, "memory": self.memory}

    @property
    def micro_batch(self) -> list[int]:
        """The samples of the present micro-batch."""
        return [self.numbers[index] for index in self.indices]

    def generator(self, *parts: int | str) -> torch.Generator:
        """A CPU generator for this step and purpose: generator("damage"), or generator("augment", index)."""
        return generator(*parts, self.run_seed, self.step)

    def keep(self, state: Tensor) -> None:
        """Have a micro-batch's states [len(indices), ...] given to `Job.end_step`, with those of the others."""
        self.kept.append(state.detach())

    def at(self, indices: range) -> StepContext:
        """The same step, looking at another micro-batch."""
        return replace(self, indices=indices)

    def __getattr__(self, name: str) -> Any:
        if name not in _EARLIER:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        warnings.warn(f"StepContext.{name} is now called {_EARLIER[name]}", FutureWarning, stacklevel=2)
        return getattr(self, _EARLIER[name])


@dataclass(frozen=True)
class Report:
    """Where a job may write while it is measured: the run's folder and its TensorBoard."""

    folder: RunFolder
    board: Board
    step: int
    epoch: int
    draws: bool = True
    """Whether to draw pictures: after every epoch, unless that would take more than a tenth of the time."""
    drawing: Drawing = field(default_factory=Drawing)

    def timed(self) -> AbstractContextManager[None]:
        """Around the drawing of pictures, so that later ones are drawn as often as there is time for them."""
        return self.drawing.timed()


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
    history: tuple[dict[str, Any], ...]
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
