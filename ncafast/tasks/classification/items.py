"""What a data set comes to: images with their classes, and with the part that they belong to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """An image that may be used: a file, or pixels."""

    name: str
    label: str
    source: Path | Array
    part: str = ""
    """train, val or test where the source itself says so."""


@dataclass(frozen=True, slots=True)
class Source:
    """All items of a data set, its classes in their order, and what was left out and why."""

    items: tuple[Item, ...]
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What was assumed about the data, one line each."""


def parts_note(base: Path, names: Iterable[str], parts: Iterable[str]) -> str:
    """A line on which folders are parts, and how many images each part has; `parts` has the part of every image."""
    counts = Counter(parts)
    words = (f"{part} ({counts[part]} images)" for part in ("train", "val", "test") if counts[part])
    return f"{', '.join(names)} in {base} are parts, not classes: {', '.join(words)}"
