"""K-fold cross-validation, with nnU-Net's split files: a list of {"train": [names], "val": [names]}, one per fold."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncafast.files import write_text
from ncafast.train.search import train_grid
from ncafast.utils.progress import say
from ncafast.utils.renamed import takes_old_names
from ncafast.utils.seeds import mix
from ncafast.utils.tables import write_rows
from ncafast.utils.texts import reason


@dataclass(frozen=True, slots=True)
class Fold:
    """Names to train on and names to measure on."""

    train: tuple[str, ...]
    val: tuple[str, ...]

    def write_lists(self, folder: Path) -> tuple[Path, Path]:
        """Write train.txt and val.txt with one name per line, for the options --train-list and --val-list."""
        paths = folder / "train.txt", folder / "val.txt"
        for path, names in zip(paths, (self.train, self.val), strict=True):
            write_text(path, "".join(f"{name}\n" for name in names))
        return paths


def make_folds(
    names: Sequence[str], count: int = 5, seed: int = 0, classes: Sequence[str] | None = None
) -> tuple[Fold, ...]:
    """Divide names so that each is measured on once; the folds' sizes differ by one at most.

    Args:
        names: of all samples. A name's fold depends on the seed, the name and the other names, not on their order.
        count: number of folds.
        seed: random seed of the division.
        classes: one for each name; every class is divided evenly too.

    Raises:
        ValueError: fewer than two folds, fewer names than folds, or a name that comes twice.
    """
    if not 2 <= count <= len(names):
        raise ValueError(f"{count} folds of {len(names)} names are not possible; give from 2 to as many as there are")
    if len(set(names)) != len(names):
        raise ValueError("a name comes twice; give every sample a name of its own")
    kind = dict(zip(names, classes or [""] * len(names), strict=True))
    order = sorted(names, key=lambda name: (kind[name], mix("fold", seed, name)))
    parts = [frozenset(order[number::count]) for number in range(count)]
    return tuple(Fold(tuple(sorted(set(names) - part)), tuple(sorted(part))) for part in parts)


def write_folds(path: Path, folds: Sequence[Fold]) -> None:
    """Write nnU-Net's splits_final.json."""
    write_text(path, json.dumps([{"train": list(fold.train), "val": list(fold.val)} for fold in folds], indent=4))


def read_folds(path: Path) -> tuple[Fold, ...]:
    """Read nnU-Net's splits_final.json.

    Raises:
        ValueError: it is none; one line that names the file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
            raise ValueError("it holds something else")
        folds = tuple(Fold(_names(entry["train"]), _names(entry["val"])) for entry in content)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such file") from error
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        needed = 'a list of {"train": [names], "val": [names]} is needed'
        raise ValueError(f"{path}: is no split file ({reason(error, 150)}); {needed}") from error
    if not folds:
        raise ValueError(f"{path}: holds no fold; give a file with at least one")
    for number, fold in enumerate(folds):
        both = sorted(set(fold.train) & set(fold.val))
        if both or not fold.train or not fold.val:
            what = f"{both[0]!r} stands on both sides" if both else "a side is empty"
            raise ValueError(f"{path}: in fold {number} {what}; correct the file")
    return folds


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


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("a side is no list of names")
    return tuple(value)
