"""Runs of a model that end where each sample has converged, and the steps that they took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ncafast.convergence import Convergence
from ncafast.files import write_text
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

    def predict(self, model: Any, image: Tensor, **options: Any) -> Prediction:
        """`model.predict` of a cascade, which is stopped so."""
        if self.until is None:
            return model.predict(image, **options)  # type: ignore[no-any-return]
        steps = model.steps if self.most is None else (self.most,) * len(model.steps)
        found: Prediction = model.predict(image, steps, until=self.until, **options)
        assert found.converged is not None
        for taken, converged in zip(found.level_steps.tolist(), found.converged.all(1).tolist(), strict=True):
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


def write_steps(folder: Path, done: Sequence[tuple[str, Stopping]]) -> Path | None:
    """Write `TABLE`, a row per image and run, or per sample of several that run together; None where none was stopped.

    Args:
        folder: where it goes.
        done: names of images, and how they stopped.
    """
    rows = [
        {"image": name, "run": number, **row}
        for name, stopping in done
        for number, row in enumerate(stopping.rows, start=1)
    ]
    if not rows:
        return None
    write_text(folder / TABLE, csv_text(rows))
    return folder / TABLE
