"""What to train on and what to hold out: drawn at random, or as text files with one sample's name per line say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ncafast.utils.seeds import mix


def held_out_by_chance(names: Sequence[str], fraction: float, seed: int, least: int = 0) -> set[str]:
    """A part of the names, at least so many and never all: those whose number from (seed, name) is smallest.

    The same names and seed give the same on any machine.
    """
    count = min(max(least, round(fraction * len(names))), len(names) - 1)
    return set(sorted(names, key=lambda name: mix("split", seed, name))[:count])


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
