"""Whether a module is unsure where it is wrong: ranks of uncertainty beside those of the error."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_MOST_CELLS = 2**20  # ranks take about 40 bytes a cell, by count, so those of 512^3 would take 5 GB


def rank_correlation(a: Any, b: Any) -> float:
    """Spearman's rank correlation of two lists or tensors of numbers; ties share their mean rank.

    NaN with fewer than 2 numbers, or where all on one side are equal.
    """
    first, second = (_ranks(_flat(each)) for each in (a, b))
    if first.shape != second.shape:
        raise ValueError(f"{first.numel()} numbers do not fit {second.numel()}")
    first, second = first - first.mean(), second - second.mean()
    size = (first.square().sum() * second.square().sum()).sqrt().item() if first.numel() else 0.0
    return (first * second).sum().item() / size if size else math.nan


def auroc(score: Any, wrong: Any) -> float:
    """The probability that what is wrong has a higher score than what is right; ties count half.

    NaN where nothing is wrong, or everything.

    Args:
        score: numbers.
        wrong: bools, as many.
    """
    ranks, bad = _ranks(_flat(score)), torch.as_tensor(wrong).flatten().bool()
    count = int(bad.sum())
    if not 0 < count < bad.numel():
        return math.nan
    return (ranks[bad].sum().item() - count * (count + 1) / 2) / (count * (bad.numel() - count))


class Calibration:
    """Uncertainty beside error on held-out samples, collected one sample at a time.

    Of more than a million cells of a sample, as many are drawn, always the same ones.

    Args:
        score: what the uncertainty of a sample is called, for people.
        error: what the error of a sample is called.
        cell: what a cell is called: voxel, pixel.
    """

    def __init__(self, score: str = "uncertainty", error: str = "error", cell: str = "cell") -> None:
        self.score, self.error, self.cell = score, error, cell
        self._scores: list[float] = []
        self._errors: list[float] = []
        self._failed: list[bool] = []
        self._correlations: list[float] = []
        self._areas: list[float] = []

    def add(
        self,
        score: float,
        error: float,
        map: Any = None,
        errors: Any = None,
        wrong: Any = None,
        failed: bool | None = None,
    ) -> None:
        """Add a sample.

        Args:
            score: its uncertainty.
            error: how wrong the module is.
            map: uncertainty of its cells, any shape.
            errors: error of its cells, the same shape; goes into the rank correlation over cells.
            wrong: which cells' decisions are wrong, the same shape; goes into the AUROC.
            failed: whether the decision on the sample is wrong; give it for all samples or for none.
        """
        self._failed += [] if failed is None else [bool(failed)]
        self._scores.append(float(score))
        self._errors.append(float(error))
        for found, other, measure in (
            (self._correlations, errors, rank_correlation),
            (self._areas, wrong, auroc),
        ):
            if map is not None and other is not None:
                found.append(measure(*_thinned(map, other)))

    def facts(self) -> dict[str, float | int | None]:
        """The numbers: over samples, and the means over samples of those over cells; None where there is none."""
        correlation = rank_correlation(self._scores, self._errors)
        area = auroc(self._scores, self._failed) if self._failed else math.nan
        return {
            "samples": len(self._scores),
            "rank_correlation": None if math.isnan(correlation) else correlation,
            "auroc": None if math.isnan(area) else area,
            "rank_correlation_cells": _mean(self._correlations),
            "auroc_cells": _mean(self._areas),
        }

    def line(self) -> str:
        """The numbers in a line, for people."""
        facts = self.facts()
        text = f"{self.score} and {self.error} of {facts['samples']} samples: rank correlation "
        text += _shown(facts["rank_correlation"])
        if facts["auroc"] is not None:
            text += f"; AUROC of wrong samples {_shown(facts['auroc'])}"
        if facts["rank_correlation_cells"] is not None:
            text += f"; map and error of {self.cell}s: rank correlation {_shown(facts['rank_correlation_cells'])}"
        if facts["auroc_cells"] is not None:
            text += f"; AUROC of wrong {self.cell}s {_shown(facts['auroc_cells'])}"
        return text


def _thinned(*maps: Any) -> list[Tensor]:
    """The same cells of each map, not more than `_MOST_CELLS`."""
    flat = [torch.as_tensor(each).flatten() for each in maps]
    if flat[0].shape != flat[1].shape:
        raise ValueError(f"a map of {flat[0].numel()} cells does not fit {flat[1].numel()}")
    if flat[0].numel() <= _MOST_CELLS:
        return flat
    drawn = torch.randint(flat[0].numel(), (_MOST_CELLS,), generator=torch.Generator().manual_seed(0))
    return [each[drawn.to(each.device)] for each in flat]


def _mean(values: list[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else None


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _flat(values: Any) -> Tensor:
    return torch.as_tensor(values).flatten().double()


def _ranks(values: Tensor) -> Tensor:
    """From 1 on, float64; equal numbers have the mean of theirs."""
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[places]
