"""Rank statistics against SciPy and counts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu, spearmanr

from ncafast.uncertainty import Calibration, auroc, calibration, rank_correlation


def test_ranks_are_those_of_scipy_also_with_ties():
    random = np.random.default_rng(0)
    for levels in (3, 1000):
        a, b = random.integers(0, levels, (2, 400))
        assert rank_correlation(a, torch.from_numpy(a + b)) == pytest.approx(spearmanr(a, a + b).statistic)
        wrong = random.random(400) < 0.2
        expected = mannwhitneyu(a[wrong], a[~wrong]).statistic / (wrong.sum() * (~wrong).sum())
        assert auroc(a, wrong) == pytest.approx(expected)


def test_what_has_no_ranks_is_nan():
    assert math.isnan(rank_correlation([1.0, 1.0], [1.0, 2.0])) and math.isnan(rank_correlation([], []))
    assert math.isnan(auroc([1.0, 2.0], [False, False]))
    with pytest.raises(ValueError, match="2 numbers do not fit 1"):
        rank_correlation([1, 2], [1])


def test_a_calibration_has_numbers_over_samples_and_means_over_cells():
    collected = Calibration("NQM", "1 - Dice", "voxel")
    error = torch.tensor([[0.0, 0.1], [0.2, 0.9]])
    collected.add(0.1, 0.3, error, error, error > 0.5)
    collected.add(0.2, 0.4, error, -error, error < 0.5)
    collected.add(0.3, 0.2)
    facts = collected.facts()
    assert facts["samples"] == 3 and facts["rank_correlation"] == pytest.approx(-0.5)
    assert facts["rank_correlation_cells"] == pytest.approx(0) and facts["auroc_cells"] == pytest.approx(0.5)
    assert collected.line() == (
        "NQM and 1 - Dice of 3 samples: rank correlation -0.500; "
        "map and error of voxels: rank correlation 0.000; AUROC of wrong voxels 0.500"
    )
    assert Calibration().line().endswith("rank correlation undefined")


def test_of_many_cells_some_stand_for_all(monkeypatch):
    spread = torch.rand(400, 500)
    errors, wrong = spread + torch.rand(400, 500), torch.rand(400, 500) < spread
    whole, part = Calibration(), Calibration()
    whole.add(0, 0, spread, errors, wrong)
    monkeypatch.setattr(calibration, "_MOST_CELLS", 20_000)
    part.add(0, 0, spread, errors, wrong)
    for name in ("rank_correlation_cells", "auroc_cells"):
        assert part.facts()[name] != whole.facts()[name]
        assert part.facts()[name] == pytest.approx(whole.facts()[name], abs=0.02)
    with pytest.raises(ValueError, match="a map of 200000 cells does not fit 400"):
        part.add(0, 0, spread, errors[0][:400])


def test_decisions_on_samples_have_an_area_of_their_own():
    collected = Calibration()
    for score, failed in ((0.1, False), (0.2, True), (0.3, False), (0.4, True)):
        collected.add(score, score, failed=failed)
    assert collected.facts()["auroc"] == 0.75
    assert collected.line().endswith("rank correlation 1.000; AUROC of wrong samples 0.750")
