"""Scores of masks: a row per sample and class, their means, and pictures of the worst, the middle and the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
    """

    sample: ClassVar[str]
    columns: ClassVar[Columns]

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
        """The rows and the mean as text in columns, then what is said of the calibration."""
        lines = [(self.sample, "label", *(heading for heading, _ in self.columns.values()))]
        for row in (*self.rows, {self.sample: "mean", "label": "", **self.mean}):
            numbers = (f"{row[key]:.{digits}f}" for key, (_, digits) in self.columns.items())
            label = printable(row.get("name") or str(row["label"]))
            lines.append((printable(row[self.sample]), label, *numbers))
        text = aligned(lines, right=(False, *[True] * (1 + len(self.columns))))
        rule = "-" * len(text[0])
        calibration = self.calibration.lines() if self.calibration else []
        return "\n".join([text[0], rule, *text[1:-1], rule, text[-1], *calibration])

    def contents(self) -> dict[str, Any]:
        """The rows with a last one named mean, the calibration, and the pictures."""
        rows = [row | {self.sample: printable(row[self.sample])} for row in self.rows]
        calibration = {"uncertainty.json": self.calibration.facts()} if self.calibration else {}
        return {"scores.csv": [*rows, {self.sample: "mean", **self.mean}], **calibration, **self.pictures}


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
