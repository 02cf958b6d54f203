"""Repeated trainings: over a grid of options, or over folds. Each is done once, however often it is stopped."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncafast.train.results import Results, claim
from ncafast.train.split_files import Fold
from ncafast.utils.lock import locked
from ncafast.utils.progress import say
from ncafast.utils.renamed import spellings, takes_old_names
from ncafast.utils.tables import write_rows


@takes_old_names
def search(
    grid: Mapping[str, Sequence[Any]],
    train: Callable[[dict[str, Any], Path], Mapping[str, float]],
    output: Path,
    *,
    by: str,
    lowest: bool = False,
    options: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Train every combination of the grid's values; the same call, also with a larger grid, does what is left.

    Args:
        grid: values to try, by option: {"lr": [1e-3, 4e-3], "hidden": [64, 128]}.
        train: `train(options, folder)` trains one combination in a folder of its own, which it may find begun, and
            returns what was measured.
        output: folder for one folder per combination (`lr=0.001,hidden=64`), and for results.csv and results.json, in
            which the best one comes first.
        by: the measured number to rank by.
        lowest: whether the lowest one is best.
        options: what else must be the same whenever the call goes on, as JSON can hold it.

    Returns:
        One row per combination of this grid, options and measured numbers, best first; NaN is worse than any number.

    Raises:
        ValueError: an option without values or with one twice, a folder with the results of other options, `by` is not
            among what was measured, or `train` returned anything but numbers under the same names every time.
    """

    def rank(row: Mapping[str, Any]) -> tuple[bool, float]:
        if by in grid or by not in row:
            measured = ", ".join(name for name in row if name not in grid)
            raise ValueError(f"by={by!r} is not among what was measured: {measured}")
        return math.isnan(row[by]), row[by] if lowest else -row[by]

    return train_grid(grid, train, output, rank, options=options)


@takes_old_names
def cross_validate(
    folds: Sequence[Fold],
    train: Callable[[int, Fold, Path], Mapping[str, float]],
    output: Path,
    *,
    options: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Train on every fold in turn; the same call goes on where it was stopped.

    Args:
        folds: as `make_folds` or `read_folds` give them.
        train: `train(number, fold, folder)` trains one fold in a folder of its own, which it may find begun, and
            returns what was measured.
        output: folder for fold_0, fold_1 ... and for results.csv and results.json.
        options: what else must be the same whenever the call goes on, as JSON can hold it.

    Returns:
        One row per fold, then the mean and the standard deviation (over the folds, with n - 1) of every number.

    Raises:
        ValueError: the folder holds results of other folds, or another process works in it; `train` returned
            anything but numbers under the same names for every fold.
    """
    if not folds:
        raise ValueError("folds is empty; give at least one, as make_folds and read_folds do")
    content = [{"train": list(fold.train), "val": list(fold.val)} for fold in folds]

    def one(point: Mapping[str, Any], folder: Path) -> Mapping[str, float]:
        fold = folds[point["fold"]]
        say(f"{folder.name}: {len(fold.train)} to train on, {len(fold.val)} held out")
        return train(point["fold"], fold, folder)

    rows = train_grid(
        {"fold": range(len(folds))},
        one,
        Path(output),
        lambda row: isinstance(row["fold"], str),  # mean and std, which a finished table has, come last
        options=options,
        identity=("folds.json", content, "other folds"),
        name="fold_{fold}".format_map,
    )
    names = [name for name in rows[0] if name != "fold"]
    mean = {name: math.fsum(row[name] for row in rows) / len(rows) for name in names}
    spread = {
        name: math.sqrt(math.fsum((row[name] - mean[name]) ** 2 for row in rows) / max(len(rows) - 1, 1))
        for name in names
    }
    rows += [{"fold": "mean", **mean}, {"fold": "std", **spread}]
    write_rows(Path(output) / "results.json", rows)
    return rows


def train_grid(
    grid: Mapping[str, Sequence[Any]],
    train: Callable[[dict[str, Any], Path], Mapping[str, Any]],
    output: Path,
    rank: Callable[[Mapping[str, Any]], Any],
    *,
    options: Mapping[str, Any] | None = None,
    identity: tuple[str, Any, str] | None = None,
    stem: str = "results",
    texts: Collection[str] = (),
    name: Callable[[Mapping[str, Any]], str] | None = None,
    after: Callable[[Sequence[dict[str, Any]]], None] = lambda rows: None,
) -> list[dict[str, Any]]:
    """What `search` does, for other tables and folders.

    Args:
        grid, train, output, options: as for `search`.
        rank: the sort key of a row of results. May raise ValueError, which comes before the next training.
        identity: a file that tells what the folder's results are of: its name, its content, and what other content
            stands for, in words. None names the grid's options in grid.json.
        stem: name of the two tables, without .csv and .json.
        texts: names of measured columns that hold text.
        name: the folder's name for a combination; None joins its options and values.
        after: is called with all rows, also of earlier calls, after every training and at the end.
    """
    output, points = Path(output), _points(grid)
    with locked(output):
        file, content, what = identity or ("grid.json", sorted(grid), "a search over other options")
        claim(output, file, content, what, stem)
        claim(output, "options.json", dict(options or {}), "other options", stem)
        results = Results(output, tuple(grid), stem, texts)
        for number, point in enumerate(points, start=1):
            if results.rows:
                rank(results.rows[0])
            if results.find(point) is None:
                folder = _folder(output, point) if name is None else output / name(point)
                say(f"training {number} of {len(points)}: {folder.name}")
                results.add(point, train(point, folder))
                after(results.rows)
        results.rows.sort(key=rank)
        results.write()
        after(results.rows)
    wanted = [results.find(point) for point in points]
    return [row for row in results.rows if row in wanted]


def _points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations. Raises ValueError for a grid that is none."""
    if not grid:
        raise ValueError('grid is empty; give values by option, such as {"lr": [1e-3, 4e-3]}')
    for name, values in grid.items():
        if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
            raise ValueError(f"grid gives {values!r} for {name}; give a list of values, such as [{values!r}]")
        if not values:
            raise ValueError(f"grid gives no value for {name}; give at least one or leave it out")
        for index, value in enumerate(values):
            try:
                json.dumps(value)
            except (TypeError, ValueError):
                raise ValueError(
                    f"grid gives {value!r} for {name}; give numbers, text, True, False, None or lists of these"
                ) from None
            if value in values[:index]:
                raise ValueError(f"grid gives {value!r} twice for {name}; give every value once")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    names: dict[str, dict[str, Any]] = {}
    for point in points:
        other = names.setdefault(_name(point), point)
        if other is not point:
            raise ValueError(f"grid: {other} and {point} would share the folder {_name(point)}; search them apart")
    return points


def _folder(output: Path, point: Mapping[str, Any]) -> Path:
    """The combination's folder, which an earlier release may have named by old names of the options."""
    names = [output / _name(dict(each)) for each in itertools.product(*itertools.starmap(spellings, point.items()))]
    return next(filter(Path.is_dir, names), names[0])


def _name(point: Mapping[str, Any]) -> str:
    """The combination as a folder's name."""
    words = (f"{name}={'-'.join(map(str, v)) if isinstance(v, (list, tuple)) else v}" for name, v in point.items())
    return re.sub(r"[^\w=,.+-]+", "_", ",".join(words))
