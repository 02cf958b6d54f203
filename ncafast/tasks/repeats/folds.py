"""Cross-validation of a task that learns from many samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncafast.tasks import base
from ncafast.tasks.repeats.pictures import draw_folds
from ncafast.tasks.repeats.training import begin, finish, measured, shared_options, training
from ncafast.train import Fold, cross_validate, make_folds, read_folds
from ncafast.utils.option_checks import Range


def crossvalidate(config: Any) -> list[dict[str, Any]]:
    """Train every fold that is still missing, print the table, write results.csv and results.png.

    Args:
        config: of a class that `ncafast.tasks.repeats.config.fold_options` makes.

    Returns:
        One row per fold, then their mean and standard deviation; each number is the best epoch's.

    Raises:
        ValueError: options, data, a split file or a folder that cannot be used.
    """
    config, task = begin(config, folds=Range(2))
    if config.train_list is not None or config.val_list is not None:
        raise ValueError("--train-list and --val-list are for one training; give the folds with --splits")
    base.check(task, training(config))  # before the folder is bound to these options
    names, classes = task.samples(config)
    folds = make_folds(names, config.folds, config.seed, classes) if config.splits is None else _read(config, names)

    def one(number: int, fold: Fold, folder: Path) -> dict[str, float]:
        train_list, val_list = fold.write_lists(folder / "lists")
        options = training(config, output=folder, train_list=train_list, val_list=val_list)
        return measured(base.train(task, options))

    rows = cross_validate(folds, one, config.output, options=shared_options(config))
    finish(config, rows, draw_folds(rows, task.rank_by(config)))
    return rows


def _read(config: Any, names: Sequence[str]) -> tuple[Fold, ...]:
    """The folds of a file, which must name these samples."""
    assert config.splits is not None
    folds = read_folds(config.splits)
    for number, fold in enumerate(folds):
        unknown = sorted({*fold.train, *fold.val} - set(names))
        if unknown:
            raise ValueError(
                f"--splits {config.splits}: fold {number} names {', '.join(unknown[:3])}, which the data do not have; "
                f"they have {', '.join(sorted(names)[:3])} ..."
            )
    return folds
