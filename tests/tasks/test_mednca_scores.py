"""What Med-NCA's scores are made of, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ncafast.tasks.mask_scores import mean, means
from ncafast.tasks.mednca.inference import decide
from ncafast.tasks.mednca.metrics import score
from ncafast.tasks.mednca.scores import Scores


def test_a_row_has_overlap_and_distance():
    truth = np.zeros((8, 9, 10), bool)
    truth[2:3, 2:3, 2:3] = True
    moved = np.roll(truth, (3, 2), (0, 1))
    assert score(truth, truth, (1, 1, 1)) == {"dice": 1, "iou": 1, "hd95_mm": 0}
    assert score(moved, truth, (2, 0.5, 9)) == {"dice": 0, "iou": 0, "hd95_mm": pytest.approx(37**0.5)}
    assert mean([0.1] * 10) == 0.1


def _row(volume: str, label: int, dice: float, true: int, found: int) -> dict[str, object]:
    counts = {"voxels_true": true, "voxels_found": found}
    return {"volume": volume, "label": label, "dice": dice, "iou": dice / 2, "hd95_mm": 10 * (1 - dice), **counts}


def _table(*rows: dict[str, object]) -> list[str]:
    return [" ".join(line.split()) for line in Scores(rows, means(rows, Scores.columns), (), {}).table().splitlines()]


def test_the_table_has_the_mean_of_each_label_and_of_all():
    a, b = (_row("a", 1, 0.8, 9, 9), _row("a", 2, 0.4, 9, 9)), (_row("b", 1, 0.6, 9, 9), _row("b", 2, 0.2, 9, 9))
    lines = _table(*a, *b)
    assert lines[-3:] == ["mean 1 0.7000 0.3500 3.00", "mean 2 0.3000 0.1500 7.00", "mean 0.5000 0.2500 5.00"]
    assert [line.split()[:2] for line in lines if line.startswith(("a", "b"))] == [
        ["a", "1"], ["a", "2"], ["b", "1"], ["b", "2"]
    ]  # fmt: skip
    for rows in (a, (a[0], b[0])):  # the rows themselves are the means, or are of one label
        assert [line.split()[0] for line in _table(*rows)].count("mean") == 1


def test_the_table_says_where_nothing_is_found():
    empty, right = _row("a", 1, 0, 5, 0), _row("b", 1, 1, 0, 0)  # nothing is there in the other
    meant = "Dice and IoU are then 0, and HD95 is the diagonal of the volume"
    assert _table(empty, right)[-1] == f"note: nothing is found in 1 of 2 volumes; {meant}"
    rows = empty, _row("a", 2, 0.5, 5, 5), right, _row("b", 2, 0, 5, 0)
    assert _table(*rows)[-1] == f"note: nothing is found of 1 in 1, of 2 in 1 of 2 volumes; {meant}"
    assert not any("note" in line for line in _table(right))


def test_decision_takes_the_likeliest_class_above_one_half():
    probability = torch.tensor([[0.4, 0.6, 0.9, 0.5], [0.3, 0.7, 0.2, 0.5]])[None, :, None]
    assert decide(probability)[0, 0].tolist() == [0, 2, 1, 0]
