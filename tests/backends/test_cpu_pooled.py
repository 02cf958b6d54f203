"""Pooled channels: equal largest values, NaN, many bands and threads; the case table has the ordinary."""

from __future__ import annotations

import pytest
import torch
from cases import make_params

from ncafast import Alive, Rule, backends, rollout
from ncafast.backends import fusable

RULE = Rule(channels=4, hidden=(6,), pooled="max")


def gradients(rule, x, params, backend, **options):
    """Of x and the parameters."""
    leaves = [x.detach().requires_grad_(), *(p.detach().requires_grad_() for p in params.values())]
    own = dict(zip(params, leaves[1:], strict=True))
    out = rollout(leaves[0], rule, own, 4, seed=3, backend=backend, **options)
    return [out, *torch.autograd.grad(out.square().sum(), leaves)]


def test_equal_largest_values_share_the_gradient():
    """As in automata that start from one living cell: the largest value of most channels is in many cells."""
    x = torch.zeros(2, 4, 7, 9)
    x[:, 3, 3, 4] = 1
    x[1, 0, 2:4] = 0.5
    params = make_params(RULE, torch.float32)
    got, want = gradients(RULE, x, params, "cpu"), gradients(RULE, x, params, "reference")
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooled", ["mean", "max"])
@pytest.mark.parametrize("threads", [1, 3])
def test_many_bands_with_an_alive_mask(pooled, threads):
    rule = RULE.replace(pooled=pooled, pooled_channels=(1, 4), alive=Alive(3, 0.1), norm="instance", mutable=(1, 4))
    noise = torch.Generator().manual_seed(1)
    x, params = torch.randn(2, 4, 61, 43, generator=noise), make_params(rule, torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got, again = (gradients(rule, x, params, "cpu", memory=2) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True))
    exact = gradients(rule, x.double(), {key: p.double() for key, p in params.items()}, "reference")
    largest = max(b.abs().max().item() for b in exact)
    for a, b in zip(got, exact, strict=True):
        scale = b.abs().max().item() if b.abs().max() > 1e-9 * largest else largest
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("pooled", ["mean", "max"])
def test_nan_reaches_every_cell_of_its_sample(pooled):
    rule = RULE.replace(pooled=pooled, fire_rate=1.0)
    x = torch.rand(2, 4, 5, 6)
    x[1, 2, 4, 5] = float("nan")
    out = rollout(x, rule, make_params(rule, torch.float32), 1, backend="cpu")
    assert out[0].isfinite().all() and out[1].isnan().all()


def test_rules_that_pool():
    assert RULE.perception_size == 16 and RULE.replace(pooled_channels=(1, 3)).perception_size == 14
    assert Rule.from_json(RULE.to_json()) == RULE and '"pooled"' not in Rule().to_json()
    with pytest.raises(ValueError, match="pooled_channels"):
        RULE.replace(pooled_channels=(2, 5))
    with pytest.raises(ValueError, match="choose one of none, mean, max"):
        RULE.replace(pooled="sum")
    assert backends.get("cpu").can_run(RULE, torch.zeros(1)) is None
    assert fusable.cpu_only(RULE) == "pooled='max' is fused on the CPU only"
