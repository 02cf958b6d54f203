"""Inference takes its steps in place. Training keeps every state beside the one before: the same bits."""

from __future__ import annotations

import pytest
import torch
from cases import make_params

from ncafast import Alive, Rule, rollout

RULES = {
    "zeros": (Rule(channels=5, hidden=(6,)), (83, 14)),
    "reflect, k7": (Rule(channels=16, hidden=(6,), kernel_size=7, padding="reflect"), (70, 15)),
    "replicate 3d": (Rule(channels=4, hidden=(6,), ndim=3, padding="replicate"), (17, 11, 12)),
    "circular 3d, k5": (Rule(channels=4, hidden=(6,), ndim=3, kernel_size=5, padding="circular"), (19, 8, 9)),
    "circular 1d": (Rule(channels=3, hidden=(6,), ndim=1, kernel_size=5, padding="circular"), (2053,)),
    "one slice of a volume": (Rule(channels=4, hidden=(6,), ndim=3, padding="circular"), (1, 61, 20)),
    "batch norm, k7": (Rule(channels=4, hidden=(6,), kernel_size=7, norm="batch", padding="circular"), (61, 43)),
    "alive, clamp, restore": (
        Rule(channels=6, hidden=(6,), alive=Alive(3, 0.8), clamp=(-1, 1), restore=(2, 5), padding="reflect"),
        (61, 43),
    ),
    "restore": (Rule(channels=6, hidden=(6,), restore=(0, 1), pooled="mean"), (90, 43)),
}


@pytest.mark.parametrize("threads", [1, 3, 8])
@pytest.mark.parametrize("case", RULES)
def test_in_place_or_not_is_the_same(case, threads):
    """Bands, samples shared by threads, and states whose channels come first again in one block or in several."""
    rule, size = RULES[case]
    x = torch.randn(3, rule.channels, *size, generator=torch.Generator().manual_seed(1))
    params = make_params(rule, torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        in_place = rollout(x, rule, params, 4, seed=2, backend="cpu")
        beside, states = rollout(x, rule, params, 4, seed=2, states="all", backend="cpu")
    finally:
        torch.set_num_threads(before)
    assert in_place.isfinite().all()
    assert torch.equal(in_place, beside) and torch.equal(states[-1], beside)


@pytest.mark.parametrize("size", [(7,), (2048,), (2053,), (4099,), (64, 96), (33, 35, 37)])
@pytest.mark.parametrize("channels", [1, 16, 17])
def test_no_step_changes_nothing(size, channels):
    """The layout there and back: whole blocks of cells, cells left over, and fewer than a block."""
    rule = Rule(channels=channels, hidden=(2,), ndim=len(size), fire_rate=0.0)
    x = torch.randn(2, channels, *size)
    assert torch.equal(rollout(x, rule, make_params(rule, torch.float32), 1, seed=0, backend="cpu"), x)
