"""Runs of a model that end where each sample has converged, and the steps that they took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ncafast.convergence import Convergence
from ncafast.files import write_text
from ncafast.predicting import Predicting
from ncafast.prediction import Prediction
from ncafast.utils.option_checks import refused
from ncafast.utils.outputs import check_free
from ncafast.utils.tables import csv_text

TABLE = "steps.csv"


class _Options(Protocol):
    """Options of a prediction."""

    until_converged: bool
    tolerance: float
    plateau: int
    min_steps: int
    max_steps: int | None
    output: Path
    overwrite: bool


@dataclass(frozen=True)
class Stopping:
    """How runs stop: by default after the model's own steps."""

    until: Convergence | None = None
    most: int | None = None
    """Steps on each level; None means the model's own."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One for each sample of each run that stopped by convergence."""

    @classmethod
    def of(cls, options: _Options) -> Stopping:
        """As the options say.

        Raises:
            ValueError: a number of steps that means nothing without --until-converged, or that is never reached.
        """
        if not options.until_converged:
            if options.max_steps is not None:
                raise refused("max_steps", options.max_steps, "give it with --until-converged only")
            return cls()
        if options.max_steps is not None and options.max_steps < max(options.min_steps, options.plateau):
            raise refused("max_steps", options.max_steps, "give no fewer than --min-steps and --plateau")
        return cls(Convergence(options.tolerance, options.plateau, options.min_steps), options.max_steps)

    def predict(self, model: Predicting, image: Tensor, steps: int | Sequence[int], **options: Any) -> Prediction:
        """`model.predict`, stopped so; `steps` are those that it takes otherwise. Samples that share statistics stop
        together, and have one row."""
        if self.until is None:
            return model.predict(image, steps, **options)
        if self.most is not None:
            steps = self.most if isinstance(steps, int) else (self.most,) * len(steps)
        found = model.predict(image, steps, until=self.until, **options)
        assert found.converged is not None
        stops = list(zip(found.level_steps.tolist(), found.converged.all(1).tolist(), strict=True))
        for taken, converged in stops[:1] if found.together else stops:
            self.note(taken, converged)
        return found

    def note(self, taken: Sequence[int], converged: bool) -> None:
        """Keep the steps of a sample on each level, coarse to fine, and whether it converged on all."""
        levels = {f"level_{n}": count for n, count in enumerate(taken, start=1)} if len(taken) > 1 else {}
        self.rows.append({"steps": sum(taken), **levels, "converged": "yes" if converged else "no"})

    def words(self) -> str:
        """What is said of an image; nothing where runs were not stopped."""
        if not self.rows:
            return ""
        counts = [row["steps"] for row in self.rows]
        low, high = min(counts), max(counts)
        open_ = sum(row["converged"] == "no" for row in self.rows)
        late = "" if not open_ else ", not converged" if open_ == len(counts) else f", {open_} not converged"
        return f"; {low} steps{late}" if low == high else f"; {low} to {high} steps{late}"


def check_stopping(options: _Options) -> None:
    """Raise ValueError for options that contradict each other, or if `TABLE` cannot be written."""
    if Stopping.of(options).until is not None:
        check_free("--output", [options.output / TABLE], options.overwrite)


def write_steps(table: Path, done: Sequence[tuple[str, Stopping]]) -> Path | None:
    """Write a row for each run of each image and return the path; None, and no file, where none was stopped.

    Args:
        table: where it goes.
        done: names of images, and how their runs stopped.
    """
    rows = [
        {"image": name, "run": number, **row}
        for name, stopping in done
        for number, row in enumerate(stopping.rows, start=1)
    ]
    if not rows:
        return None
    write_text(table, csv_text(rows))
    return table
