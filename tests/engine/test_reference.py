"""The reference backend against the naive oracle: every rule, forward, states and every gradient."""

from __future__ import annotations

import oracle
import pytest
import torch
from cases import CASES, make_extra, make_masks, make_params, make_state

from ncafast import Rule, backends, fire_mask, philox, rollout

STEPS = 4


def noises(rule, x, seed):
    """The standard normal draws [B, M, *S] of every step."""
    if rule.noise == "none":
        return None
    size = (x.shape[0], rule.hi - rule.lo, tuple(x.shape[2:]))
    return [philox.normal(*size, torch.tensor([seed]), step=t, dtype=x.dtype) for t in range(STEPS)]


def kepts(rule, x, seed):
    """Which hidden units [B, H, N] stay, by layer, in every step."""
    size = (x.shape[0], x[0, 0].numel(), rule.hidden, rule.hidden_dropout)
    return [philox.kept_units(*size, torch.tensor([seed]), step=t) for t in range(STEPS)]


@pytest.fixture(autouse=True)
def on_reference():
    with backends.use("reference"):
        yield


@pytest.mark.parametrize("name", CASES)
def test_forward_states_and_gradients(name):
    rule, size = CASES[name]
    dtype = torch.float64
    x, params = make_state(rule, size, dtype), make_params(rule, dtype)
    masks, extra = make_masks(rule, STEPS, size), make_extra(rule, size, dtype)
    learned = [p for key, p in params.items() if "running" not in key]
    leaves = [x, *learned] + ([] if extra is None else [extra])
    for leaf in leaves:
        leaf.requires_grad_()
    want = oracle.rollout(rule, x, params, masks, STEPS, extra, noises(rule, x, 5), kepts(rule, x, 5))
    out, states = rollout(x, rule, params, STEPS, fire_mask=masks, extra=extra, seed=5, states="all")
    torch.testing.assert_close(states, torch.stack(want), rtol=1e-11, atol=1e-11)
    assert torch.equal(out, states[-1])
    weight = torch.randn(states.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    want_grads = torch.autograd.grad(
        (torch.stack(want) * weight).sum(), leaves, allow_unused=True, materialize_grads=True
    )
    grads = torch.autograd.grad((states * weight).sum() * 0.5 + (states * weight).sum() * 0.5, leaves)
    for grad, wanted in zip(grads, want_grads, strict=True):
        torch.testing.assert_close(grad, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["2d", "batch norm", "alive", "3d", "extra"])
@pytest.mark.parametrize("memory", ["states", "sqrt", 1, 2, 3, 9])
def test_memory_policies_give_the_same_numbers(name, memory):
    rule, size = CASES[name]
    x, params = make_state(rule, size, torch.float64), make_params(rule, torch.float64)
    extra = make_extra(rule, size, torch.float64)
    leaves = [x.requires_grad_(), *(p.requires_grad_() for p in params.values())]

    def run(**options):
        out = rollout(x, rule, params, 7, seed=3, extra=extra, **options)
        return out, torch.autograd.grad(out.square().sum(), leaves)

    out, grads = run()
    got, got_grads = run(memory=memory)
    assert torch.equal(out, got)
    assert all(torch.equal(a, b) for a, b in zip(grads, got_grads, strict=True))


@pytest.mark.parametrize("states", ["all", 1, 2, 3, 7, 8])
@pytest.mark.parametrize("memory", ["states", 2, 3])
def test_states_at_any_interval(states, memory):
    rule, size = CASES["2d"]
    x, params = make_state(rule, size, torch.float64), make_params(rule, torch.float64)
    full = torch.stack(oracle.rollout(rule, x, params, make_masks(rule, 7, size), 7))
    k = 1 if states == "all" else states
    for grad in (False, True):
        x.requires_grad_(grad)
        out, got = rollout(x, rule, params, 7, fire_mask=make_masks(rule, 7, size), states=states, memory=memory)
        torch.testing.assert_close(out, full[-1], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(got, full[k - 1 :: k], rtol=1e-11, atol=1e-11)


def test_gradient_through_some_states_only():
    rule, size = CASES["batch norm"]
    x, params = (
        make_state(rule, size, torch.float64).requires_grad_(),
        make_params(rule, torch.float64),
    )
    masks = make_masks(rule, 7, size)
    want = torch.autograd.grad(oracle.rollout(rule, x, params, masks, 7)[3].square().sum(), x)[0]
    for memory in ("states", "sqrt", 3):
        _, states = rollout(x, rule, params, 7, fire_mask=masks, states=2, memory=memory)
        got = torch.autograd.grad(states[1].square().sum(), x)[0]
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 2, 1, 1),
        (2, 2, 1, 1),
        (1, 2, 4, 5),
        (2, 2, 4, 1),
        (4, 1, 2, 1, 1),
        (4, 2, 2, 4, 5),
        (4, 1, 2, 4, 1),
    ],
)
def test_extra_constant_per_sample_per_cell_and_per_step(shape):
    rule, size = CASES["extra"]
    x, params = make_state(rule, size, torch.float64), make_params(rule, torch.float64)
    extra = torch.randn(shape, dtype=torch.float64).requires_grad_()
    masks = make_masks(rule, STEPS, size)
    want = oracle.rollout(rule, x, params, masks, STEPS, extra)[-1]
    got = rollout(x, rule, params, STEPS, fire_mask=masks, extra=extra)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)
    wanted = torch.autograd.grad(want.square().sum(), extra)[0]
    torch.testing.assert_close(torch.autograd.grad(got.square().sum(), extra)[0], wanted, rtol=1e-9, atol=1e-10)


def test_a_rollout_in_two_parts_is_the_same_rollout():
    rule = CASES["update noise"][0].replace(norm="batch")
    x, params = make_state(rule, (4, 5), torch.float64), make_params(rule, torch.float64)
    whole = rollout(x, rule, params, 7, seed=2**64 - 3)
    half = rollout(x, rule, params, 3, seed=2**64 - 3)
    assert torch.equal(whole, rollout(half, rule, params, 4, seed=2**64 - 3, first_step=3))


def test_a_batch_in_two_parts_is_the_same_batch():
    rule, size = CASES["state noise"]
    x, params = make_state(rule, size, torch.float64, batch=5), make_params(rule, torch.float64)
    whole = rollout(x, rule, params, 3, seed=9)
    parts = [
        rollout(x[:2], rule, params, 3, seed=9),
        rollout(x[2:], rule, params, 3, seed=9, first_sample=2),
    ]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-12, atol=1e-12)


def test_drawn_masks_are_those_of_fire_mask():
    rule, size = CASES["fire 0.2"]
    x, params = make_state(rule, size, torch.float64), make_params(rule, torch.float64)
    drawn = torch.stack([fire_mask(x.shape, 0.2, 77, step=5 + t) for t in range(STEPS)])
    injected = rollout(x, rule, params, STEPS, fire_mask=drawn)
    assert torch.equal(rollout(x, rule, params, STEPS, seed=77, first_step=5), injected)
    assert torch.equal(rollout(x, rule, params, STEPS, fire_mask=drawn.float()), injected)


def test_manual_seed_governs_everything():
    rule, size = CASES["update noise"]
    x, params = make_state(rule, size, torch.float64), make_params(rule, torch.float64)
    torch.manual_seed(4)
    first, second = rollout(x, rule, params, STEPS), rollout(x, rule, params, STEPS)
    torch.manual_seed(4)
    assert torch.equal(first, rollout(x, rule, params, STEPS))
    assert not torch.equal(first, second)


def test_nothing_is_drawn_where_every_cell_fires():
    rule, size = CASES["fire 1"]
    x, params = make_state(rule, size, torch.float64), make_params(rule, torch.float64)
    before = torch.get_rng_state()
    rollout(x, rule, params, STEPS)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "name",
    ["2d", "reflect, bias", "3d k5 reflect", "batch norm", "layer norm", "alive", "dense", "gelu"],
)
def test_low_precision_is_as_good_as_eager(name, dtype):
    """Error against float64 at most twice that of the oracle's eager operations in the same dtype."""
    rule, size = CASES[name]
    if rule.alive is not None:  # away from the threshold, which amplifies rounding
        rule = rule.replace(alive=None)
    x, params = make_state(rule, size, dtype), make_params(rule, dtype)
    masks = make_masks(rule, 2, size)
    exact_params = {key: p.double() for key, p in params.items()}
    exact = oracle.rollout(rule, x.double(), exact_params, masks, 2)[-1]
    eager = (oracle.rollout(rule, x, params, masks, 2)[-1].double() - exact).square().mean().sqrt()
    ours = rollout(x, rule, params, 2, fire_mask=masks)
    assert ours.dtype == dtype
    assert (ours.double() - exact).square().mean().sqrt() <= 2 * eager + 4 * torch.finfo(dtype).eps


def test_zero_batch_and_zero_steps():
    rule, size = CASES["batch norm"]
    params = {key: p.requires_grad_() for key, p in make_params(rule, torch.float32).items()}
    empty = torch.empty(0, rule.channels, *size, requires_grad=True)
    out, states = rollout(empty, rule, params, 5, states=2)
    assert out.shape == empty.shape and states.shape == (2, *empty.shape)
    out.sum().backward()
    assert all(p.grad.abs().sum() == 0 for p in params.values())
    x = make_state(rule, size, torch.float32).requires_grad_()
    out = rollout(x, rule, params, 0)
    assert torch.equal(out, x) and out.data_ptr() != x.data_ptr()
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], torch.ones_like(x))


def test_strided_inputs():
    rule, size = CASES["2d"]
    x, params = make_state(rule, size, torch.float64), make_params(rule, torch.float64)
    want = rollout(x, rule, params, STEPS, seed=1)
    wide = torch.stack((x, x), -1)[..., 0]
    last = x.to(memory_format=torch.channels_last)
    flipped = {key: p.flip(0).contiguous().flip(0) for key, p in params.items()}
    for strided in (wide, last, x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert torch.equal(rollout(strided, rule, flipped, STEPS, seed=1), want)
        assert rollout(strided, rule, params, STEPS, seed=1).is_contiguous()


def test_the_state_given_is_never_written():
    rule, size = CASES["alive"]
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    copy = x.clone()
    out = rollout(x, rule, params, 3, seed=0)
    out.zero_()
    assert torch.equal(x, copy)


def test_backends_are_listed_explained_and_forced(monkeypatch):
    rule, size = CASES["2d"]
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    assert "reference" in backends.available()
    assert backends.explain(rule, x)["reference"] is None
    assert list(backends.explain(rule, x)) == list(backends.names())
    with pytest.raises(ValueError, match="'fast' is not known: choose from"), backends.use("fast"):
        pass
    with pytest.raises(ValueError, match="'fast' is not known"):
        rollout(x, rule, params, 1, backend="fast")
    monkeypatch.setattr(backends, "_forced", None)
    monkeypatch.setenv("NCAFAST_BACKEND", "slow")
    with pytest.raises(ValueError, match="'slow' is not known"):
        backends.choose(Rule(channels=4), x)
