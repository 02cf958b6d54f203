"""Parameters per sample: one call gives what one rollout per sample gives, on every case, with all gradients."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, make_extra, make_masks, make_params, make_state
from parity import check

from ncafast import NCA, backends, rollout

BATCH, STEPS = 3, 4
SEED = torch.tensor([3])
RUNS = [name for name, (rule, _) in CASES.items() if backends.get("cpu").can_run(rule, torch.zeros(1)) is None]
SHARED = ("perceive.weight", "hidden.bias")  # by all samples, in the tests where some parameters are


def inputs(name, dtype, own=lambda key: True):
    """State, parameters, of which those that `own` picks differ per sample, fire masks, extra channels."""
    rule, size = CASES[name]
    noise = torch.Generator().manual_seed(5)
    x, extra = make_state(rule, size, torch.float32, BATCH), make_extra(rule, size, torch.float32)
    params = make_params(rule, torch.float32)
    for key, p in params.items():
        if own(key):
            params[key] = p * (1 + 0.3 * torch.rand(BATCH, *[1] * p.dim(), generator=noise))
    if extra is not None and extra.shape[extra.dim() - x.dim()] > 1:
        extra = torch.cat([extra, extra.narrow(extra.dim() - x.dim(), 0, 1) * 0.5], extra.dim() - x.dim())
    masks = make_masks(rule, STEPS, size, BATCH)
    return (
        x.to(dtype),
        {key: p.to(dtype) for key, p in params.items()},
        masks,
        extra if extra is None else extra.to(dtype),
    )


def run(step, rule, x, params, masks, extra, **options):
    """The last state, kept states, and gradients of x, the learned parameters and extra."""
    learned = {key: p.detach().requires_grad_() for key, p in params.items() if "running" not in key}
    x = x.detach().requires_grad_()
    extra = None if extra is None else extra.detach().requires_grad_()
    out, states = step(x, rule, params | learned, STEPS, fire_mask=masks, extra=extra, states=2, **options)
    leaves = [x, *learned.values()] + ([] if extra is None else [extra])
    weight = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).reshape(out.shape)
    return [out, states, *torch.autograd.grad((out * weight).sum() + states.square().sum(), leaves)]


def one_by_one(x, rule, params, steps, *, fire_mask, extra, **options):
    """One rollout per sample."""
    shapes, results = rule.param_shapes(), []
    for b in range(x.shape[0]):
        own = {key: p[b] if p.dim() > len(shapes[key]) else p for key, p in params.items()}
        mask = fire_mask if fire_mask is None else fire_mask[:, b : b + 1]
        axis = 0 if extra is None else extra.dim() - x.dim()
        part = extra if extra is None or extra.shape[axis] == 1 else extra.narrow(axis, b, 1)
        results.append(rollout(x[b : b + 1], rule, own, steps, fire_mask=mask, extra=part, first_sample=b, **options))
    return torch.cat([out for out, _ in results]), torch.cat([states for _, states in results], 1)


@pytest.mark.parametrize("memory", ["states", 3])
@pytest.mark.parametrize("name", RUNS)
def test_parity_with_float64(name, memory):
    rule = CASES[name][0]
    ours = run(rollout, rule, *inputs(name, torch.float32), backend="cpu", memory=memory, seed=6)
    plain, exact = (
        run(one_by_one, rule, *inputs(name, dtype), backend="reference", seed=6)
        for dtype in (torch.float32, torch.float64)
    )
    check(ours, plain, exact)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", ["2d", "group norm", "extra", "batch norm", "running norm"])
def test_some_parameters_are_shared(name, backend):
    """Their gradients have the shape that they have; masks are those that the samples of one batch draw."""
    rule = CASES[name][0]
    x, params, _, extra = inputs(name, torch.float32, lambda key: key not in SHARED)
    args = (rule, x.mT.contiguous().mT, {key: p.mT.contiguous().mT if p.dim() > 1 else p for key, p in params.items()})
    got = run(rollout, *args, None, extra, backend=backend, seed=9)
    want = run(one_by_one, rule, x, params, None, extra, backend=backend, seed=9)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_equal_parameters_give_the_ordinary_rollout(backend):
    rule = CASES["alive"][0]
    x, params, _, extra = inputs("alive", torch.float32, lambda key: False)
    many = {key: p.expand(BATCH, *p.shape) for key, p in params.items()}
    got, want = (rollout(x, rule, p, 3, seed=4, backend=backend, extra=extra) for p in (many, params))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_two_runs_give_equal_bits(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        first, again = (run(rollout, CASES["2d"][0], *inputs("2d", torch.float32), backend="cpu") for _ in range(2))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_vmap_over_parameters_and_seeds_restarts_the_samples(backend):
    """Slices of two samples each: all draw with the sample numbers of a rollout alone, each from its own seed."""
    rule, size = CASES["2d"]
    xs = torch.stack([make_state(rule, size, torch.float32, 2, seed) for seed in range(BATCH)], 2)
    params = inputs("2d", torch.float32)[1]
    seeds = torch.tensor([[4], [5], [-6]])

    def step(x, params, seed):
        return rollout(x, rule, params, STEPS, seed=seed, states=2, backend=backend)

    weight = params["hidden.weight"].requires_grad_()
    got = torch.vmap(step, in_dims=(2, 0, 0))(xs, params, seeds)
    slices = [step(xs[:, :, b], {key: p[b] for key, p in params.items()}, seeds[b]) for b in range(BATCH)]
    want = [torch.stack(parts) for parts in zip(*slices, strict=True)]
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)
    gradients = [torch.autograd.grad(out.square().sum() + s.sum(), weight) for out, s in (got, want)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_vmap_of_vmap_is_a_loop_over_calls():
    rule = CASES["2d"][0]
    x, params, *_ = inputs("2d", torch.float32)
    both = {key: torch.stack([p, -p]) for key, p in params.items()}

    def step(x, params):
        return rollout(x[None], rule, params, 2, seed=4, backend="cpu")[0]

    got = torch.vmap(torch.vmap(step), in_dims=(None, 0))(x, both)
    for i in range(2):
        for b in range(BATCH):
            torch.testing.assert_close(got[i, b], step(x[b], {key: p[i, b] for key, p in both.items()}))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_backward_under_vmap(backend):
    """Several gradients of one result: what forward has kept is shared by the slices."""
    rule = CASES["batch norm"][0]
    x, params, masks, _ = inputs("batch norm", torch.float32, lambda key: False)
    call = (list(params.values()), None, masks, SEED, rule.to_json(), backend, STEPS, 0, 0, 2, 1, "ieee")
    _, history, _, tape = torch.ops.ncafast.rollout(x, *call)

    def back(g):
        return torch.ops.ncafast.rollout_backward(g, None, x, history, tape, *call, [True] * (2 + len(params)))

    many = torch.randn(x.shape[0], 4, *x.shape[1:], generator=torch.Generator().manual_seed(1))
    got_x, _, got = torch.vmap(back, in_dims=1)(many)
    for i in range(4):
        want_x, _, want = back(many[:, i])
        for a, b in zip((got_x[i], *(g[i] for g in got)), (want_x, *want), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", ["2d", "batch norm", "extra", "alive"])
def test_opcheck(name, backend):
    rule = CASES[name][0]
    x, params, masks, extra = inputs(name, torch.float32)
    x, params = x[:, None].requires_grad_(), [p.detach().requires_grad_() for p in params.values()]
    masks = None if masks is None else masks.movedim(1, 0)[:, :, None]
    if extra is not None:
        extra = extra.expand(BATCH, *extra.shape[1:])[:, None]
    call = (extra, masks, SEED.expand(BATCH, 1), rule.to_json(), backend, STEPS, 0, 0, 2, 2, "ieee", 1)
    torch.library.opcheck(torch.ops.ncafast.rollout_members.default, (x, params, *call))
    x, params = x.detach(), [p.detach() for p in params]
    _, history, _, tape = torch.ops.ncafast.rollout_members(x, params, *call)
    args = (x[:, 0:1] * 2, None, x, history, tape, params, *call, [True] * (2 + len(params)))
    torch.library.opcheck(torch.ops.ncafast.rollout_members_backward.default, args)


def test_compile_of_a_module_with_parameters_per_sample():
    torch.manual_seed(2)
    nca, x = NCA(4, 6, zero_init=False, filters="learned"), torch.randn(BATCH, 4, 5, 7)
    own = {key: p.detach() * torch.rand(BATCH, *[1] * p.dim()) for key, p in nca.named_parameters()}
    weight = own["hidden.weight"].requires_grad_()

    def call(x):
        return torch.func.functional_call(nca, own, (x,), {"steps": 3, "seed": 8})

    want = one_by_one(x, nca.rule, own, 3, fire_mask=None, extra=None, states=1, seed=8)[0]
    for step in (call, torch.compile(call, fullgraph=True, backend="aot_eager")):
        torch.testing.assert_close(step(x), want)
        (got,) = torch.autograd.grad(step(x).square().sum(), weight)
        torch.testing.assert_close(got, torch.autograd.grad(want.square().sum(), weight, retain_graph=True)[0])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_an_empty_batch_of_parameters(backend):
    rule = CASES["2d"][0]
    x, params, *_ = inputs("2d", torch.float32)
    none = {key: p[:0].requires_grad_() for key, p in params.items()}
    out, states = rollout(x[:0], rule, none, 3, seed=1, states=1, backend=backend)
    out.sum().backward()
    assert out.shape == x[:0].shape and states.shape == (3, *out.shape)
    assert all(p.grad is None or p.grad.shape == p.shape for p in none.values())


def test_wrong_number_of_parameters_per_sample():
    rule = CASES["2d"][0]
    x, params, *_ = inputs("2d", torch.float32)
    with pytest.raises(
        ValueError, match=r"\[2, 6, 12\], the rule needs \[6, 12\], or \[B=3, 6, 12\] where each sample"
    ):
        rollout(x, rule, params | {"hidden.weight": params["hidden.weight"][:2]}, 1)


def test_running_statistics_do_not_follow_parameters_per_sample():
    nca = NCA(4, 6, norm="running")
    weight = nca.update.weight.expand(2, 4, 6)
    with pytest.raises(ValueError, match="eval"):
        torch.func.functional_call(nca, {"update.weight": weight}, (torch.randn(2, 4, 5, 5),), {"steps": 1})
