"""Products of the CPU backend in bfloat16: those of rounded operands, close to float64, and refused in words."""

from __future__ import annotations

import pytest
import torch
from cases import CASES
from parity import inputs, run

from ncafast import NCA, backends, native, rollout
from ncafast.backends.precision import use_precision
from ncafast.rule import Rule

STEPS = 3
REFUSAL = native.load().refuse_bf16() if native.load() else "there is no extension"
needs_bf16 = pytest.mark.skipif(REFUSAL is not None, reason=str(REFUSAL))
RUNS = [name for name, (rule, _) in CASES.items() if backends.get("cpu").can_run(rule, torch.zeros(1)) is None]


class Rounded(torch.autograd.Function):
    """x W^T + b of operands in bfloat16; gradients of weights are of operands as they are."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return half(x) @ half(weight).T + bias

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return half(grad) @ half(weight), grad.T @ x, grad.sum(0)


def half(x):
    return x.float().bfloat16().to(x.dtype)


@needs_bf16
@pytest.mark.parametrize("hidden", [(40,), (37, 18)])
def test_a_step_is_that_of_rounded_operands(hidden):
    """States and filters are small fractions of two, so that the perception is exact and rounded alike."""
    rule = Rule(channels=11, hidden=hidden, num_filters=2, fire_rate=1.0, update_bias=True)
    draw = torch.Generator().manual_seed(2)
    x = torch.randint(-64, 64, (2, 11, 5, 7), generator=draw) / 64
    params = {
        name: torch.randint(-8, 8, shape, generator=draw) / 8
        if name == "perceive.weight"
        else torch.randn(shape, generator=draw) / 4
        for name, shape in rule.param_shapes().items()
    }
    weight = torch.randn((1, 2, 11, 5, 7), generator=draw)
    with use_precision("bf16"):
        found = run("cpu", rule, x, dict(params), None, None, weight)

    leaves = [x.double().requires_grad_()] + [p.double().requires_grad_() for p in params.values()]
    named = dict(zip(params, leaves[1:], strict=True))
    filters = named["perceive.weight"].transpose(0, 1).flatten(0, 1).unsqueeze(1)
    seen = torch.nn.functional.conv2d(leaves[0], filters, padding=1, groups=11)
    seen = seen.unflatten(1, (11, 2)).transpose(1, 2).flatten(1, 2)
    cells = torch.cat([leaves[0], seen], 1).movedim(1, -1).flatten(0, -2)
    for number in range(len(hidden)):
        cells = Rounded.apply(
            cells, *(named[f"hidden{number + 1 if number else ''}.{part}"] for part in ("weight", "bias"))
        ).relu()
    update = Rounded.apply(cells, named["update.weight"], named["update.bias"])
    out = leaves[0] + update.unflatten(0, (2, 5, 7)).movedim(-1, 1)
    expected = [out, *torch.autograd.grad(2 * (out * weight[0]).sum(), leaves)]
    del found[1]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=2e-5)


@needs_bf16
@pytest.mark.parametrize("name", RUNS)
def test_every_rule_is_close_to_float64(name):
    """Sums of squares; gradients are further off, since a hidden value may round to the other side of ReLU's kink."""
    rule, size = CASES[name]
    weight = torch.randn((STEPS, 2, rule.channels, *size), generator=torch.Generator().manual_seed(3))
    exact = run("reference", rule, *inputs(name, torch.float64), weight.double())
    with use_precision("bf16"):
        ours, again = (run("cpu", rule, *inputs(name, torch.float32), weight) for _ in range(2))
    largest = max(c.norm() for c in exact)
    for number, (a, b, c) in enumerate(zip(ours, again, exact, strict=True)):
        assert torch.equal(a, b)  # two runs give the same bits
        scale = c.norm() if c.norm() > 1e-3 * largest else largest
        assert (a.double() - c).norm() <= (0.02 if number < 2 else 0.25) * scale, number


@needs_bf16
def test_a_nan_stays_one_and_does_not_spread_beyond_its_neighbours():
    nca, x = NCA(8, hidden=16, fire_rate=1.0), torch.rand(1, 8, 9, 9)
    torch.nn.init.normal_(nca.update.weight)
    x[0, 3, 4, 4] = float("nan")
    with use_precision("bf16"), torch.no_grad():
        y = nca(x, steps=1)
    assert y[..., 3:6, 3:6].isnan().all() and not y[..., :3, :].isnan().any() and not y[..., :, 6:].isnan().any()


@needs_bf16
def test_it_is_by_choice_only_and_the_backward_has_the_precision_of_its_forward():
    nca, x = NCA(8, hidden=16), torch.rand(1, 8, 9, 9)
    torch.nn.init.normal_(nca.update.weight)
    plain = nca(x, steps=2, seed=1)
    with use_precision("bf16"):
        rounded = nca(x, steps=2, seed=1)
        inside = torch.autograd.grad(rounded.sum(), nca.hidden.weight, retain_graph=True)
    for name in ("tf32", "tf32x3", "ieee"):
        with use_precision(name):
            assert torch.equal(nca(x, steps=2, seed=1), plain)
    assert not torch.equal(rounded, plain)
    assert torch.equal(torch.autograd.grad(rounded.sum(), nca.hidden.weight)[0], inside[0])


def test_a_processor_without_it_is_named(monkeypatch):
    monkeypatch.setenv("NCAFAST_CPU_ISA", "portable")
    rule = Rule(channels=4, hidden=(8,), num_filters=1)
    assert "bfloat16 was asked for, and " in str(backends.get("cpu").can_run(rule, torch.zeros(1, 4, 8, 8), "bf16"))
    params = {name: torch.rand(shape) for name, shape in rule.param_shapes().items()}
    with use_precision("bf16"), pytest.raises(RuntimeError, match="bfloat16 was asked for"):
        rollout(torch.zeros(1, 4, 8, 8), rule, params, 1, backend="cpu")
