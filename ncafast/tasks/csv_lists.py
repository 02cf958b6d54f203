"""CSV lists that name the files of a data set, and the words for its parts: train, val and test."""

from __future__ import annotations

import csv
from pathlib import Path

FILE_COLUMNS = ("file", "path", "image", "filename", "name")
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
PART_NAMES = ", ".join(_PARTS)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The lines below the first one, which names the columns.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a CSV file ({error}); save it as CSV in UTF-8") from error


def column(path: Path, rows: list[dict[str, str]], known: tuple[str, ...]) -> str:
    """The name of the column that is called one of the known words, in any case.

    Raises:
        ValueError: there is none.
    """
    names = [name for name in (rows[0] if rows else {}) if name]
    fitting = [name for name in names if name.strip().lower() in known]
    if not fitting:
        have = ", ".join(names[:6]) or "no column"
        raise ValueError(f"{path}: has {have}; give its first line a column named {' or '.join(known[:3])}")
    return fitting[0]


def part_of(name: str) -> str | None:
    """train, val or test, where a name in any case stands for one of them."""
    return _PARTS.get(name.strip().lower())


def part_in(path: Path, number: int, row: dict[str, str]) -> str:
    """train, val, test or nothing, from a line's column split.

    Raises:
        ValueError: any other word: its images would be used as if it were not there.
    """
    text = row.get("split") or ""
    part = part_of(text)
    if text.strip() and part is None:
        raise ValueError(f"{path}, line {number}: its split is {text.strip()!r}; give one of {PART_NAMES}")
    return part or ""
