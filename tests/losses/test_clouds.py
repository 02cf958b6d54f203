"""Sliced Wasserstein distances and overflow against their definitions, computed in another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from ncafast.losses import OverflowLoss, SlicedWassersteinLoss
from ncafast.losses.overflow import overflow
from ncafast.losses.sliced import sliced_wasserstein, unit_directions, wasserstein


def by_steps(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of two lists of numbers, by repeating each until both are equally long."""
    length = np.lcm(len(ours), len(theirs))
    a = np.sort(np.repeat(ours.astype(np.float64), length // len(ours)))
    b = np.sort(np.repeat(theirs.astype(np.float64), length // len(theirs)))
    return float(((a - b) ** 2).mean())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("ours", "theirs"), [(7, 7), (12, 5), (5, 12), (6, 12), (1, 9), (9, 1)])
def test_wasserstein_is_that_of_the_sorted_steps(ours, theirs):
    values, target = torch.randn(2, 3, ours), 2 * torch.randn(3, theirs) + 1
    found = wasserstein(values, target)
    for b in range(2):
        for k in range(3):
            assert found[b, k].item() == pytest.approx(by_steps(values[b, k].numpy(), target[k].numpy()), rel=1e-5)


def test_wasserstein_of_a_shift_is_its_square_and_scipy_agrees_on_the_distance():
    values = torch.randn(1, 1, 50)
    assert wasserstein(values + 0.3, values[0]).item() == pytest.approx(0.09, rel=1e-4)
    assert wasserstein_distance(values[0, 0] + 0.3, values[0, 0]) == pytest.approx(0.3, rel=1e-4)
    assert wasserstein(values[..., torch.randperm(50)], values[0]).item() == 0


def test_wasserstein_gradient_is_autograds_of_the_sorted_difference():
    values = torch.randn(1, 2, 11, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: wasserstein(x, target), values)


def test_sliced_wasserstein_is_the_mean_over_lines():
    points, target, lines = torch.randn(2, 4, 9), torch.randn(4, 6), unit_directions(3, 4, generator())
    assert torch.allclose(lines.norm(dim=1), torch.ones(3))
    expected = [np.mean([by_steps((line @ p).numpy(), (line @ target).numpy()) for line in lines]) for p in points]
    assert sliced_wasserstein(points, target, lines).tolist() == pytest.approx(expected, rel=1e-4)


def test_overflow_counts_what_is_beyond_the_limit():
    state = torch.tensor([[0.5, -1.0, 1.5, -3.0], [0.0, 1.0, 0.2, -0.1]]).view(2, 1, 2, 2)
    assert overflow(state).tolist() == pytest.approx([(0.5 + 2) / 4, 0])
    assert overflow(state, 2).tolist() == pytest.approx([1 / 4, 0])
    assert OverflowLoss(2)(state).item() == pytest.approx(1 / 8)


def test_the_module_compares_features_of_any_shape():
    features, target = torch.randn(2, 4, 3, 5), torch.randn(4, 7, 2)
    lines = unit_directions(16, 4, generator(3))
    expected = sliced_wasserstein(features.flatten(2), target.flatten(1), lines).mean()
    loss = SlicedWassersteinLoss(16)
    assert loss(features, target, generator(3)) == expected
    assert loss(target[None].flip(2), target).item() == pytest.approx(0, abs=1e-12)  # places do not count
    with pytest.raises(ValueError, match=r"target of shape \[3, 7, 2\] has 3 features"):
        loss(features, target[:3])
