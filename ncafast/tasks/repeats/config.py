"""The options of repeated trainings: a task's own and a few more. The text under a field is its help text."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncafast.tasks.on_demand import options_of
from ncafast.utils.renamed import Renamed


@dataclass(kw_only=True)
class FoldOptions(Renamed):
    """What cross-validation takes beside a task's options."""

    output: Path = Path("folds")
    """Folder for a training's folder per fold, results.csv, and results.png."""

    folds: int = 5
    """How many parts the data are divided into; each is held out once."""

    splits: Path | None = None
    """File with the folds, as nnU-Net's splits_final.json: a list of {"train": [names], "val": [names]}. Left out:
    --folds parts, drawn by --seed."""


@dataclass(kw_only=True)
class GridOptions(Renamed):
    """What a search takes beside a task's options."""

    output: Path = Path("search")
    """Folder for a training's folder per combination, results.csv, and results.png."""

    over: tuple[str, ...]
    """Values to try, by option: lr=0.001,0.002 hidden=64,128. Every combination is trained once. A value of several
    numbers has colons between them, as in steps=32:48."""

    by: str | None = None
    """What to rank by: val_dice or any other column of a training's history.csv, at its best epoch. Left out: what the
    task chooses its best epoch by."""

    lowest: bool = False
    """The lowest number is best. Left out: the highest, but for losses."""


_FOLDS = """Train once for each fold of the data, and measure on what is held out.

The options are those of `ncafast train {task}` and a few more. If it is stopped, give the same command again: it goes
on in the middle of a training too.
"""
_GRID = """Train with every combination of some options' values, and rank them.

The options are those of `ncafast train {task}` and a few more. If it is stopped, give the same command again, also with
more values: it trains what is left.
"""


@functools.cache
def fold_options(task: str) -> type[Any]:
    """The options of a task's cross-validation."""
    return _derived(task, FoldOptions, "folds", _FOLDS)


@functools.cache
def grid_options(task: str) -> type[Any]:
    """The options of a search over a task's options."""
    return _derived(task, GridOptions, "search", _GRID)


def can_be_divided(task: str) -> bool:
    """Whether a task's training takes lists of what to train on and what to hold out, as cross-validation needs."""
    return {"train_list", "val_list"} <= {field.name for field in dataclasses.fields(options_of(task).TrainConfig)}


def _derived(task: str, more: type, ending: str, text: str) -> type[Any]:
    """The options of a task's training with more options."""
    output = ("output", Path, dataclasses.field(default=Path(f"{task}-{ending}")))
    name, bases = f"{task.capitalize()}{ending.capitalize()}", (more, options_of(task).TrainConfig)
    made = dataclasses.make_dataclass(name, [output], bases=bases, kw_only=True, namespace={"task": task})
    made.__doc__, made.__module__ = text.format(task=task), __name__
    return made
