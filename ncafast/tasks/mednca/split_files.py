"""Dividing volumes into training and held-out ones. Slices of one volume never end up on both
sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ncafast.train.split_files import split_by_lists
from ncafast.utils.seeds import mix


@dataclass(frozen=True, slots=True)
class Split:
    """Names of the training and of the held-out volumes, each sorted."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def split_volumes(
    names: Sequence[str],
    val_fraction: float = 0.2,
    seed: int = 0,
    train_list: Path | None = None,
    val_list: Path | None = None,
) -> Split:
    """Divide volumes at random, or as list files say.

    At random, each name gets a number from (seed, name) and the smallest numbers are held out: the
    same names and seed give the same split on any machine. With one list alone, the other side is
    everything else.
    Raises ValueError if nothing is left to train on or a list does not fit the names.
    """
    known = sorted(names)
    if train_list is not None or val_list is not None:
        train, held = split_by_lists(known, train_list, val_list, "volumes")
        return Split(tuple(sorted(train)), tuple(sorted(held)))
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction={val_fraction} is not allowed; give a number from 0 to below 1")
    if val_fraction == 0:
        return Split(tuple(known), ())
    if len(known) < 2:
        raise ValueError(
            f"there is {len(known)} usable volume, which cannot be split by volume; "
            "add volumes, or train without measuring by --val-fraction 0"
        )
    count = min(max(1, round(val_fraction * len(known))), len(known) - 1)
    held_out = set(sorted(known, key=lambda name: mix("split", seed, name))[:count])
    return Split(tuple(n for n in known if n not in held_out), tuple(sorted(held_out)))
