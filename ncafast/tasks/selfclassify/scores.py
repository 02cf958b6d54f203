"""Scores of a model on test digits over time: accuracy of cells and votes, the confusion matrix, and examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncafast.tasks.base import Trained
from ncafast.tasks.report import Report
from ncafast.tasks.selfclassify import pictures
from ncafast.tasks.selfclassify.idx import read_digits
from ncafast.tasks.selfclassify.metrics import Tally, confusion, tally, votes
from ncafast.tasks.selfclassify.options import EvaluateConfig
from ncafast.tasks.selfclassify.running import each_batch
from ncafast.tasks.selfclassify.states import brightness
from ncafast.utils.progress import Bar

_SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 20.0, 50.0)  # of the trained length
_SHOWN = 20


@dataclass(frozen=True)
class Scores(Report):
    """Accuracy after each of several step counts."""

    over_time: dict[int, Tally]
    """Counts by step, in rising order."""
    trained_steps: int
    confusion: Tensor
    """[10, 10]: rows are the true digits, columns the votes, at the trained length."""
    model: str
    """The checkpoint."""
    examples: pictures.Array = field(repr=False)
    """The first digits, and those whose vote is wrong."""

    @property
    def json(self) -> Path:
        """The file with all numbers."""
        return self.folder / "scores.json"

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The files of accuracy over time, of the confusion matrix, and of digits."""
        return tuple(self.folder / name for name in ("accuracy.png", "confusion.png", "digits.png"))

    def table(self) -> str:
        """The accuracies as text in columns."""
        lines = [f"{'step':>6}{'cells':>9}{'votes':>9}{'agree':>9}"]
        for step, found in self.over_time.items():
            values = (found.cell_accuracy, found.vote_accuracy, found.agreement)
            mark = "  length of training" if step == self.trained_steps else ""
            lines.append(f"{step:>6}" + "".join(f"{value:>9.4f}" for value in values) + mark)
        return "\n".join(lines)

    def contents(self) -> dict[str, Any]:
        """Accuracies by step, all numbers, and the pictures."""
        names = ("cell_accuracy", "vote_accuracy", "agreement", "cells", "digits")
        rows = [
            {"step": step, **{name: getattr(found, name) for name in names}} for step, found in self.over_time.items()
        ]
        facts = {"model": self.model, "trained_steps": self.trained_steps, "over_time": rows}
        return {
            "scores.csv": rows,
            "scores.json": {**facts, "confusion": self.confusion.tolist()},
            "accuracy.png": pictures.accuracy(self.over_time, self.trained_steps),
            "confusion.png": pictures.confusion(self.confusion),
            "digits.png": self.examples,
        }


def score(trained: Trained[int], options: EvaluateConfig) -> Scores:
    """Classify test digits from fresh states.

    Args:
        trained: a model, and the steps of its longest training rollout.
        options: see `EvaluateConfig`.

    Raises:
        ValueError: files that cannot be used.
    """
    digits = read_digits(options.data, "t10k")
    digits = digits.part(0, min(options.digits or len(digits), len(digits)))
    labels = torch.from_numpy(digits.labels.astype(np.int64))
    counts = step_counts(trained.spec, options.steps or 10 * trained.spec)
    middle = trained.spec if trained.spec in counts else counts[-1]
    tallies = dict.fromkeys(counts, Tally())
    shown: list[Tensor] = []
    images, size = brightness(digits.images), options.batch_size
    with Bar(len(digits) * len(counts), options.progress, "classifying") as bar:
        for step, indices, states in each_batch(trained.model, images, counts, batch=size, seed=options.seed):
            tallies[step] += tally(states, labels[indices].to(states.device))
            if step == middle:
                shown.append(states.cpu())
            bar.advance({}, len(states))
    states = torch.cat(shown)
    named = votes(states)
    return Scores(tallies, trained.spec, confusion(named, labels), str(trained.path), _examples(states, named, labels))


def step_counts(trained: int, last: int) -> list[int]:
    """The step counts to look at, up to the last one: parts and multiples of the trained length."""
    usual = {max(1, round(share * trained)) for share in _SHARES}
    return sorted({step for step in usual if step < last} | {last})


def _examples(states: Tensor, named: Tensor, labels: Tensor) -> pictures.Array:
    """The first digits, and below them the first whose vote is wrong."""
    wrong = (named.argmax(1) != labels).nonzero()[:, 0][:_SHOWN]
    sheets = [pictures.sheet(pictures.colour(states[:_SHOWN]), zoom=3)]
    sheets.append(pictures.legend(sheets[0].shape[1]))
    if len(wrong):
        sheets.append(pictures.sheet(pictures.colour(states[wrong]), zoom=3))
    return pictures.stack(sheets)
