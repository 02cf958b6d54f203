"""What to train on and what to hold out: drawn at random, as text files with one name per line say, or in folds.

Files with folds are nnU-Net's: a list of {"train": [names], "val": [names]}, one per fold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncafast.files import write_text
from ncafast.utils.seeds import mix
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


def held_out_by_chance(names: Sequence[str], fraction: float, seed: int, least: int = 0) -> set[str]:
    """A part of the names, at least so many and never all: those whose number from (seed, name) is smallest.

    The same names and seed give the same on any machine.
    """
    count = min(max(least, round(fraction * len(names))), len(names) - 1)
    return set(sorted(names, key=lambda name: mix("split", seed, name))[:count])


def split(
    names: Sequence[str],
    things: str,
    val_fraction: float = 0.2,
    seed: int = 0,
    train_list: Path | None = None,
    val_list: Path | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names to train on and names held out, each sorted, at random or as list files say.

    With one list alone, the other side is everything else. `things` is what the samples are called in messages.

    Raises:
        ValueError: nothing is left to train on, or a list does not fit the names.
    """
    held_out: set[str] = set()
    if train_list is not None or val_list is not None:
        train, held_out = split_by_lists(sorted(names), train_list, val_list, things)
        return tuple(sorted(train)), tuple(sorted(held_out))
    if val_fraction > 0:
        if len(names) < 2:
            one = things.removesuffix("s")
            raise ValueError(
                f"there is {len(names)} usable {one}, which cannot be split by {one}; "
                f"add {things}, or train without measuring by --val-fraction 0"
            )
        held_out = held_out_by_chance(names, val_fraction, seed, least=1)
    return tuple(sorted(set(names) - held_out)), tuple(sorted(held_out))


def split_by_lists(
    known: Sequence[str], train_list: Path | None, val_list: Path | None, things: str
) -> tuple[set[str], set[str]]:
    """Names to train on and names held out, as one list or both say; with one alone, the other side is all else.

    `things` is what the samples are called in messages. Raises ValueError if nothing is left to train on, or a list
    does not fit the names.
    """
    train = None if train_list is None else _read(train_list, known, things)
    held_out = None if val_list is None else _read(val_list, known, things)
    if train is None:
        train = set(known) - (held_out or set())
    if held_out is None:
        held_out = set(known) - train
    both = sorted(train & held_out)
    if both:
        raise ValueError(f"{val_list}: {', '.join(both[:5])} stands in the training list too; keep it in one of them")
    if not train:
        raise ValueError(f"{val_list or train_list}: leaves no {things} to train on; list fewer or add some")
    return train, held_out


def _read(path: Path, known: Sequence[str], things: str) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # Windows editors mark the start
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a text file with one name per line ({error})") from error
    names = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    unknown = sorted(names - set(known))
    if unknown:
        raise ValueError(
            f"{path}: names {', '.join(unknown[:5])}, which {'is' if len(unknown) == 1 else 'are'} not among the "
            f"usable {things}, such as {', '.join(sorted(known)[:3])}; correct the list"
        )
    return names


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("a side is no list of names")
    return tuple(value)
