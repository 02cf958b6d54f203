"""The perception of a state, against explicit neighbours, for every case; of the last state, with gradients."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, make_extra, make_params, make_state
from oracle import perceive

from ncafast import NCA, perception, rollout


def inputs(name):
    rule, size = CASES[name]
    x, extra = (make(rule, size, torch.float64) for make in (make_state, make_extra))
    return rule, x, make_params(rule, torch.float64), extra[0] if extra is not None and extra.dim() > x.dim() else extra


@pytest.mark.parametrize("name", CASES)
def test_perception_of_every_rule(name):
    rule, x, params, extra = inputs(name)
    got = perception(x.mT.contiguous().mT if x.dim() > 3 else x, rule, params, extra=extra)
    assert got.shape == (2, rule.perception_size, *x.shape[2:])
    torch.testing.assert_close(got, perceive(rule, x, params, extra))


@pytest.mark.parametrize("name", ["reflect, bias", "extra", "dense"])
def test_filters_per_sample(name):
    rule, x, params, extra = inputs(name)
    own = {key: torch.stack([p, -2 * p]) if key.startswith("perceive") else p for key, p in params.items()}
    got = perception(x, rule, own, extra=extra)
    for b in range(2):
        alone = {key: p[b] if key.startswith("perceive") else p for key, p in own.items()}
        part = extra if extra is None or extra.shape[0] == 1 else extra[b : b + 1]
        torch.testing.assert_close(got[b : b + 1], perceive(rule, x[b : b + 1], alone, part))


def test_gradients_reach_the_rollout_before_it():
    rule, x, params, _ = inputs("2d")
    weight = params["perceive.weight"].requires_grad_()

    def loss(seen):
        return torch.autograd.grad(seen.square().sum(), weight)[0]

    last = rollout(x, rule, params, 3, seed=2)
    torch.testing.assert_close(
        loss(perception(last, rule, params)), loss(perceive(rule, rollout(x, rule, params, 3, seed=2), params, None))
    )


def test_a_module_and_half_precision():
    nca, x = NCA(4, 6, filters="learned"), torch.randn(2, 4, 5, 7)
    want = perceive(nca.rule, x, nca.params(), None)
    torch.testing.assert_close(nca.perception(x), want)
    assert nca.perception(x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(nca.perception(x), want)


def test_extra_of_several_steps_is_refused():
    nca = NCA(4, 6, extra=1)
    with pytest.raises(ValueError, match="axis of steps"):
        nca.perception(torch.zeros(2, 4, 5, 5), extra=torch.zeros(3, 2, 1, 5, 5))
    with pytest.raises(ValueError, match="extra= must be given"):
        nca.perception(torch.zeros(2, 4, 5, 5))
