"""Scores of masks: a row per sample and class, their means, and pictures of the worst, the middle and the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, ClassVar, TypeVar

from ncafast.tasks.mask_calibration import MaskCalibration
from ncafast.tasks.report import Report
from ncafast.utils.tables import aligned
from ncafast.utils.texts import printable
from ncafast.viz.pixels import Array

P = TypeVar("P")
Columns = Mapping[str, tuple[str, int]]


@dataclass(frozen=True)
class MaskScores(Report):
    """One row per sample and class, their means, and the files that were left out.

    Attributes:
        sample: column of the samples' names.
        columns: measures by their column: what the table calls them, and the digits that it shows.
        cells: what the cells are called, of which the rows have so many true and so many found.
        of_nothing: what the measures are where nothing is found.
    """

    sample: ClassVar[str]
    columns: ClassVar[Columns]
    cells: ClassVar[str]
    of_nothing: ClassVar[str] = "Dice and IoU are then 0"

    rows: tuple[dict[str, Any], ...]
    """The sample's name, label (and name, where labels are numbers with names), the measures, and more."""
    mean: dict[str, float]
    """Of every measure over all rows."""
    skipped: tuple[Any, ...]
    pictures: dict[str, Array] = field(repr=False)
    """[H, W, 3] uint8 by file name."""
    calibration: MaskCalibration | None = field(default=None, repr=False)
    """Of --uncertainty."""

    def table(self) -> str:
        """The rows and their means, of each label and of all, as text in columns; then what is said of the calibration
        and of empty masks."""
        lines = [(self.sample, "label", *(heading for heading, _ in self.columns.values()))]
        lines += [(printable(row[self.sample]), _label(row), *self._numbers(row)) for row in self.rows]
        rows_of = self._by_label()
        if len(rows_of) > 1 and len(self.rows) > len(rows_of):
            lines += [("mean", label, *self._numbers(means(rows, self.columns))) for label, rows in rows_of.items()]
        lines.append(("mean", "", *self._numbers(self.mean)))
        text = aligned(lines, right=(False, *[True] * (1 + len(self.columns))))
        rule, last = "-" * len(text[0]), 1 + len(self.rows)
        calibration = self.calibration.lines() if self.calibration else []
        return "\n".join([text[0], rule, *text[1:last], rule, *text[last:], *calibration, *self._empty()])

    def _numbers(self, row: Mapping[str, Any]) -> list[str]:
        """The measures as the table shows them."""
        return [f"{row[key]:.{digits}f}" for key, (_, digits) in self.columns.items()]

    def _empty(self) -> Iterator[str]:
        """One line if nothing is found of what is there."""
        rows_of, true, found = self._by_label(), f"{self.cells}_true", f"{self.cells}_found"
        missed = {label: sum(row[true] > 0 and not row[found] for row in rows) for label, rows in rows_of.items()}
        if any(missed.values()):
            each = ", ".join(f"of {label} in {count}" for label, count in missed.items() if count)
            where = each if len(missed) > 1 else f"in {sum(missed.values())}"
            samples = len(self.rows) // len(rows_of)
            yield f"note: nothing is found {where} of {samples} {self.sample}s; {self.of_nothing}"

    def _by_label(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of each label."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            found.setdefault(_label(row), []).append(row)
        return found

    def contents(self) -> dict[str, Any]:
        """The rows with a last one named mean, the calibration, and the pictures."""
        rows = [row | {self.sample: printable(row[self.sample])} for row in self.rows]
        calibration = {"uncertainty.json": self.calibration.facts()} if self.calibration else {}
        return {"scores.csv": [*rows, {self.sample: "mean", **self.mean}], **calibration, **self.pictures}


def _label(row: Mapping[str, Any]) -> str:
    """What the label of a row is called."""
    return printable(row.get("name") or str(row["label"]))


def means(rows: Sequence[Mapping[str, Any]], columns: Columns) -> dict[str, float]:
    """Of every measure over all rows."""
    return {key: mean([row[key] for row in rows]) for key in columns}


def mean(values: Sequence[float]) -> float:
    """The mean, as exactly as floats can say it; the order does not matter."""
    return math.fsum(values) / len(values)


def ranked(
    scored: Sequence[tuple[P, Sequence[Mapping[str, Any]]]], draw: Callable[[P, str], Array]
) -> dict[str, Array]:
    """Pictures of the samples whose mean Dice over their rows is the worst, in the middle, and the best.

    Args:
        scored: samples, which have a name, with their rows.
        draw: makes the picture of a sample with this title.
    """
    order = sorted(((mean([row["dice"] for row in rows]), sample) for sample, rows in scored), key=itemgetter(0))
    drawn = {}
    for name, index in (("worst", 0), ("middle", len(order) // 2), ("best", -1)):
        dice, sample = order[index]
        drawn[f"{name}.png"] = draw(sample, f"{name}: {sample.name}, Dice {dice:.3f}")  # type: ignore[attr-defined]
    return drawn
