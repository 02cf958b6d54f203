"""Results: rows of CSV, appended, never rewritten; one file per device."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from ncafast.measuring.timing import Spread

ABSENT = "not measured"  # the metric of a row that says in its note why there is no other
WRONG = "parity failed"  # likewise
MACHINE = "machine"  # the provider of ceilings and clock
ROUNDED = "ncafast:cpu:bf16"  # the provider whose products are in bfloat16
PEAK_SHARE = "% of FMA peak"  # unit of the metric "share" on a CPU


class NotResults(ValueError):
    """A file that holds something else."""


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Attributes:
        date: when the run started, UTC; the same in all rows of a run.
        revision: git revision, "+" when files differed from it.
        device: name of the processor.
        threads: CPU threads.
        case: name in the table of cases.
        size: quick, full or gpu.
        shape: batch, grid and steps.
        provider: who.
        mode: forward, train, inference or memory.
        metric: time, rate, arithmetic, traffic, share, kept, peak, error, gradient error, compile, launches, core,
            matmul, copy, FMA and copy by instruction set and cache ("FMA avx2", "copy L2"), clock, load; or ABSENT,
            WRONG.
        unit: of the three values.
        p20: percentile over the rounds; "" where there is one value only.
        p50: median, or the one value.
        p80: percentile.
        rounds: number of rounds.
        versions: of all packages in play.
        note: anything else.
    """

    date: str
    revision: str
    device: str
    threads: str
    case: str
    size: str
    shape: str
    provider: str
    mode: str
    metric: str
    unit: str = ""
    p20: str = ""
    p50: str = ""
    p80: str = ""
    rounds: str = ""
    versions: str = ""
    note: str = ""

    @property
    def value(self) -> float:
        """The median."""
        return float(self.p50)


COLUMNS = tuple(field.name for field in fields(Row))


def figures(value: Spread | float) -> dict[str, str]:
    """The value columns, in four digits."""
    if isinstance(value, Spread):
        return {name: f"{number:.4g}" for name, number in value._asdict().items()}
    return {"p50": f"{value:.4g}"}


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file, which is made with its header when there is none.

    Raises:
        NotResults: the file has other columns.
    """
    rows = list(rows)
    if path.exists():
        _read_header(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)


def read(path: Path) -> list[Row]:
    """All rows of a file.

    Raises:
        NotResults: the file has other columns.
    """
    _read_header(path)
    with path.open(newline="", encoding="utf-8") as file:
        return [Row(**row) for row in csv.DictReader(file)]


def newest(rows: Iterable[Row], key: Callable[[Row], object]) -> list[Row]:
    """For every value of `key` the rows of the latest run that has it."""
    rows = list(rows)
    last: dict[object, str] = {}
    for row in rows:
        last[key(row)] = max(last.get(key(row), ""), row.date)
    return [row for row in rows if row.date == last[key(row)]]


def is_results(path: Path) -> bool:
    """Whether a file holds results."""
    try:
        _read_header(path)
    except NotResults:
        return False
    return True


def _read_header(path: Path) -> None:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file), [])
    except (UnicodeDecodeError, csv.Error):
        raise NotResults(f"{path} is not a file of results: it is not text in UTF-8") from None
    if tuple(header) != COLUMNS:
        raise NotResults(f"{path} is not a file of results: its columns are {', '.join(header)[:120] or 'none'}")
