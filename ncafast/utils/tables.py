"""Rows of results as text: in columns for people, and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ncafast.files import write_text
from ncafast.utils.texts import printable


def columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as lines of text under their names: words to the left, numbers to the right with four digits."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name, "")) for name in names] for row in rows]
    right = [all(isinstance(row.get(name), (int, float)) for row in rows) for name in names]
    lines = [line.rstrip() for line in aligned([names, *cells], right)]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def aligned(lines: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Cells as lines of text, every column as wide as its widest cell, to the left or to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        )
        for line in lines
    ]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as the text of a CSV file; the columns are all names, in the order in which they first appear."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows to `path`, a .json file, and to a .csv file beside it."""
    write_text(path.with_suffix(".csv"), csv_text(rows))
    write_text(path, json.dumps(list(rows), indent=1))


def _cell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ":".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
