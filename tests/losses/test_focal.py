"""Focal losses against Lin et al.'s formula, MONAI and torchvision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ncafast.losses import BinaryFocalLoss, FocalLoss

LOGITS = torch.randn(3, 4, 5, 6, dtype=torch.float64)
LABELS = torch.randint(0, 4, (3, 5, 6))
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)


def gradient(loss, logits, *others):
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits, *others), logits)[0]


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_focal_is_the_papers_formula_over_the_true_class(weight):
    p = LOGITS.softmax(1).gather(1, LABELS[:, None])[:, 0]
    factor = 1 if weight is None else weight[LABELS]
    assert torch.isclose(FocalLoss(1.5, weight)(LOGITS, LABELS), (factor * (1 - p) ** 1.5 * -p.log()).mean())


def test_focal_is_that_of_monai():
    monai = pytest.importorskip("monai.losses")
    onehot = F.one_hot(LABELS, 4).movedim(-1, 1)
    theirs = monai.FocalLoss(gamma=2.0, weight=WEIGHT.float(), use_softmax=True, reduction="none")
    per_class = theirs(LOGITS, onehot).sum(1)  # MONAI's own mean counts every class of a cell
    assert torch.isclose(FocalLoss(2.0, WEIGHT)(LOGITS, LABELS).float(), per_class.mean())


@pytest.mark.parametrize("alpha", [None, 0.25])
def test_binary_focal_is_that_of_torchvision(alpha):
    ops = pytest.importorskip("torchvision.ops")
    target = torch.randint(0, 2, LOGITS.shape).double()

    def theirs(logits, target):
        return ops.sigmoid_focal_loss(logits, target, -1 if alpha is None else alpha, 2.5, "mean")

    ours = BinaryFocalLoss(2.5, alpha)
    assert torch.isclose(ours(LOGITS, target), theirs(LOGITS, target))
    assert torch.allclose(gradient(ours, LOGITS, target), gradient(theirs, LOGITS, target))


def test_without_gamma_they_are_cross_entropies():
    target = torch.randint(0, 2, LOGITS.shape).double()
    assert torch.isclose(FocalLoss(0)(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS))
    assert torch.isclose(BinaryFocalLoss(0)(LOGITS, target), F.binary_cross_entropy_with_logits(LOGITS, target))


def test_what_does_not_count_changes_nothing():
    valid = torch.zeros(3, 1, 5, 6)
    valid[..., :4, :3] = 1
    target = torch.randint(0, 2, LOGITS.shape)
    part = BinaryFocalLoss()(LOGITS[..., :4, :3], target[..., :4, :3])
    assert torch.isclose(BinaryFocalLoss()(LOGITS, target, valid), part)


def test_slopes_are_finite_where_nothing_is_in_doubt():
    sure = torch.tensor([[200.0, -200.0]])
    assert gradient(FocalLoss(0.5), sure, torch.tensor([0])).isfinite().all()
    assert gradient(BinaryFocalLoss(0.5), sure, torch.tensor([[1.0, 0.0]])).isfinite().all()
