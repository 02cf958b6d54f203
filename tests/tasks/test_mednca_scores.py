"""What Med-NCA's scores are made of, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ncafast.tasks.mask_scores import mean
from ncafast.tasks.mednca.inference import decide
from ncafast.tasks.mednca.metrics import score


def test_a_row_has_overlap_and_distance():
    truth = np.zeros((8, 9, 10), bool)
    truth[2:3, 2:3, 2:3] = True
    moved = np.roll(truth, (3, 2), (0, 1))
    assert score(truth, truth, (1, 1, 1)) == {"dice": 1, "iou": 1, "hd95_mm": 0}
    assert score(moved, truth, (2, 0.5, 9)) == {"dice": 0, "iou": 0, "hd95_mm": pytest.approx(37**0.5)}
    assert mean([0.1] * 10) == 0.1


def test_decision_takes_the_likeliest_class_above_one_half():
    probability = torch.tensor([[0.4, 0.6, 0.9, 0.5], [0.3, 0.7, 0.2, 0.5]])[None, :, None]
    assert decide(probability)[0, 0].tolist() == [0, 2, 1, 0]
