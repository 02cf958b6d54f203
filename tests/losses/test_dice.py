"""Dice and cross-entropy of masks against numbers worked out by hand and against MONAI."""

from __future__ import annotations

import math

import pytest
import torch

from ncafast.losses import DiceBCELoss, DiceLoss, DiceScore

TERMS = DiceBCELoss().terms


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_loss_by_hand():
    probability = [0.8, 0.6, 0.3, 0.1]
    logits = torch.tensor([_logit(p) for p in probability]).reshape(1, 1, 2, 2)
    target = torch.tensor([1.0, 0.0, 1.0, 0.0]).reshape(1, 1, 2, 2)
    dice_loss, bce = TERMS(logits, target, torch.ones(1, 1, 2, 2))
    assert dice_loss.item() == pytest.approx(1 - 2 * 1.1 / (1.8 + 2), rel=1e-5)
    expected = -(math.log(0.8) + math.log(0.4) + math.log(0.3) + math.log(0.9)) / 4
    assert bce.item() == pytest.approx(expected, rel=1e-5)


def test_loss_of_several_classes_is_the_mean():
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 2, (2, 3, 4, 5)).float()
    valid = torch.ones(2, 1, 4, 5)
    whole = TERMS(logits, target, valid)
    parts = [TERMS(logits[:, k : k + 1], target[:, k : k + 1], valid) for k in range(3)]
    for k in range(2):
        assert whole[k].item() == pytest.approx(sum(p[k].item() for p in parts) / 3, rel=1e-5)


def test_padding_changes_neither_loss_nor_gradient():
    logits = torch.randn(2, 2, 3, 5, requires_grad=True)
    target = torch.randint(0, 2, (2, 2, 3, 5)).float()
    plain = sum(TERMS(logits, target, torch.ones(2, 1, 3, 5)))
    (gradient,) = torch.autograd.grad(plain, logits)

    pad = (0, 3, 0, 1)
    wide = torch.nn.functional.pad(logits.detach(), pad, value=2.0).requires_grad_()
    truth = torch.nn.functional.pad(target, pad, value=1.0)
    valid = torch.nn.functional.pad(torch.ones(2, 1, 3, 5), pad)
    padded = sum(TERMS(wide, truth, valid))
    (padded_gradient,) = torch.autograd.grad(padded, wide)

    assert padded.item() == pytest.approx(plain.item(), rel=1e-6)
    torch.testing.assert_close(padded_gradient[..., :3, :5], gradient)
    assert padded_gradient.abs().sum() == pytest.approx(gradient.abs().sum().item(), rel=1e-5)


def test_empty_target_and_empty_prediction_cost_nothing():
    dice_loss, bce = TERMS(torch.full((1, 1, 4, 4), -60.0), torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4))
    assert dice_loss.item() == pytest.approx(0, abs=1e-6)
    assert bce.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("per_sample", [False, True])
def test_dice_is_that_of_monai(per_sample):
    monai = pytest.importorskip("monai.losses")
    logits = torch.randn(3, 2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 2, (3, 2, 4, 5, 6))
    options = {"sigmoid": True, "batch": not per_sample, "smooth_nr": 0.5, "smooth_dr": 0.5}
    theirs = monai.DiceLoss(**options)(logits, target)
    ours = DiceLoss(0.5, per_sample=per_sample)(logits, target)
    assert torch.isclose(ours, theirs, rtol=1e-12)
    assert torch.allclose(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)), rtol=1e-9)
    assert torch.isclose(1 - ours, DiceScore(0.5, per_sample=per_sample)(logits.sigmoid(), target))


def test_both_is_the_sum_of_its_terms():
    logits, target = torch.randn(2, 1, 6), torch.randint(0, 2, (2, 1, 6)).bool()
    dice, entropy = TERMS(logits, target)
    assert DiceBCELoss()(logits, target) == dice + entropy
    assert torch.isclose(dice, DiceLoss()(logits, target))
    assert torch.isclose(entropy, torch.nn.BCEWithLogitsLoss()(logits, target.float()))


def test_half_precision_sums_do_not_overflow():
    mask = torch.ones(1, 1, 300, 300, dtype=torch.float16)
    assert DiceScore()(mask, mask) == DiceScore()(mask.bool(), mask.bool()) == 1


def test_wrong_arguments_are_named():
    logits = torch.zeros(2, 3, 4, 5)
    for arguments, said in (
        ((logits, logits[:, :1]), r"target of shape \[2, 1, 4, 5\] does not fit logits of shape \[2, 3, 4, 5\]"),
        ((logits, logits, logits), r"valid of shape \[2, 3, 4, 5\] is not allowed: it must be \[2, 1, 4, 5\]"),
    ):
        with pytest.raises(ValueError, match=said):
            DiceLoss()(*arguments)
    with pytest.raises(TypeError, match="logits must be a tensor of floats"):
        DiceLoss()(logits.long(), logits)
    with pytest.raises(ValueError, match="smooth=-1.0 is not allowed"):
        DiceScore(-1)
