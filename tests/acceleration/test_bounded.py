"""Steps with clamps, bounded updates, wrapping or gating life and dropout do what they did when accelerated."""

from __future__ import annotations

import copy

import pytest
import torch
from bounded_steps import BOUNDED, Dropping

import ncafast

FOUND = {
    "clamp, tanh, life after, 3-D": {
        "clamp": (-1.0, 1.0),
        "update_activation": "tanh",
        "step_size": pytest.approx(0.1),
        "alive": ncafast.Alive(5, 0.1, pre=False),
    },
    "clamp at two sides, channels last": {"clamp": (-8.0, 8.0), "alive": ncafast.Alive(3, 0.1), "restore": None},
    "life gates, wrapping": {"alive": ncafast.Alive(3, 0.1, post=False, wrap=True, gates="update")},
    "life before and after, wrapping": {"alive": ncafast.Alive(3, 0.1, wrap=True)},
    "image behind the clamp": {"clamp": (-1.0, 1.5), "restore": (0, 3), "update_activation": "tanh"},
    "wrapping line, silu": {"alive": ncafast.Alive(2, 0.2, 5, post=False, wrap=True), "update_activation": "silu"},
}


def run(model, x, steps):
    """The state after some steps, and the gradients of a sum of it, with the same draws every time."""
    torch.manual_seed(5)
    leaf = x.clone().requires_grad_()
    out = model(leaf, steps)
    weight = torch.linspace(0.5, 1.5, out.numel()).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), [leaf, *model.parameters()])]


@pytest.mark.parametrize("name", BOUNDED)
def test_a_bounded_step_does_what_it_did_with_its_own_draws(name):
    torch.manual_seed(4)
    model = BOUNDED[name]()
    plain = copy.deepcopy(model)
    ncafast.accelerate(model, masks="torch", quiet=True)
    rule = model.forward.find().rule
    assert {field: getattr(rule, field) for field in FOUND[name]} == FOUND[name]
    x = 1.5 * torch.randn(2, rule.channels, *{1: (21,), 2: (14, 17), 3: (8, 7, 9)}[rule.ndim])
    if "channels last" in name:
        x = 6 * x.movedim(1, -1).contiguous()
    for steps in (1, 3):
        for got, want in zip(run(model, x, steps), run(plain, x, steps), strict=True):
            assert float((got - want).abs().max()) <= 1e-5 * float(want.abs().max())


@pytest.mark.parametrize("how", ["layer", "function", "operation"])
def test_dropout_of_hidden_units_is_recognised_in_training(how):
    torch.manual_seed(0)
    model = Dropping(how=how, hidden=(12,) if how == "operation" else (12, 8))
    plain = copy.deepcopy(model)
    ncafast.accelerate(model, quiet=True)
    rule, x = model.forward.find().rule, torch.randn(2, 6, 12, 15)
    assert rule.hidden_dropout == pytest.approx(0.25) and rule.fire_rate == 0.5
    a, b, c = (run(model, x, 2) for model in (model, model, plain))
    assert all(torch.equal(one, two) for one, two in zip(a, b, strict=True))
    assert not torch.equal(a[0], c[0])
    model.eval()
    assert model.forward.find().rule == rule.for_eval()


def test_dropout_of_hidden_units_has_the_mean_and_spread_of_the_modules_own():
    torch.manual_seed(0)
    model = Dropping(hidden=(12,))
    x = torch.randn(1, 6, 1, 1).expand(8, 6, 40, 40)
    with torch.no_grad():
        plain = model(x, 1)
        mine = ncafast.accelerate(model, quiet=True)(x, 1)
    for channel in range(6):
        want, got = ((y - x)[:, channel].flatten() for y in (plain, mine))
        error = (want.var() / want.numel()).sqrt()
        assert abs(float(want.mean() - got.mean())) < 7 * float(error)
        assert float(want.std()) == pytest.approx(float(got.std()), rel=0.05)


def test_masks_of_torch_and_dropout_of_hidden_units_do_not_go_together():
    model = ncafast.accelerate(Dropping(), masks="torch", quiet=True)
    with pytest.warns(ncafast.acceleration.NotAcceleratedWarning, match="masks='torch' is not possible"):
        model(torch.randn(1, 6, 9, 8), 1)
