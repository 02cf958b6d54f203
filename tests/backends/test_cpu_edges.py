"""The CPU backend at its edges: NaN and infinity, unwritten memory, some gradients only, odd strides, empty calls."""

from __future__ import annotations

import math

import pytest
import torch
from cases import CASES, make_extra, make_masks, make_params, make_state

from ncafast import Alive, Rule, backends, rollout

FUSED = {name: case for name, case in CASES.items() if backends.get("cpu").can_run(case[0], torch.zeros(1)) is None}
SETS = ["avx512", "avx2", "portable"]


@pytest.fixture(params=SETS)
def isa(request, monkeypatch):
    from ncafast import native

    monkeypatch.setenv("NCAFAST_CPU_ISA", request.param)
    if native.load().instruction_set() != request.param:
        pytest.skip(f"this processor has no {request.param}")


@pytest.fixture
def poisoned():
    """torch.empty and its kin return NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def both(rule, x, steps, **options):
    """The last state on the reference and on this backend."""
    params = make_params(rule, torch.float32)
    return [rollout(x, rule, params, steps, backend=name, **options) for name in ("reference", "cpu")]


def chosen(rule, x, masks):
    """The reference, with cells that do not fire left as they are: there 0 * NaN would make them NaN."""
    params = make_params(rule, torch.float32)
    for fired in masks:
        moved = rollout(x, rule, params, 1, fire_mask=torch.ones_like(masks[:1]), backend="reference")
        x = moved if rule.alive is not None else torch.where(fired, moved, x)
    return x


PARTS = {
    "C5": {"channels": 5},
    "C17, F3": {"channels": 17, "num_filters": 3},
    "C16": {"channels": 16},
    "C1": {"channels": 1},
    "5x1": {"channels": 3, "kernel_size": (5, 1)},
    "reflect": {"channels": 5, "padding": "reflect"},
    "circular 7": {"channels": 6, "padding": "circular", "kernel_size": 7},
    "replicate": {"channels": 9, "padding": "replicate"},
    "dense": {"channels": 5, "perception": "dense", "dense_channels": 3, "dense_activation": "relu"},
    "no identity": {"channels": 5, "identity": False},
    "mutable": {"channels": 7, "mutable": (2, 5)},
    "restore": {"channels": 7, "restore": (1, 3)},
    "two layers": {"channels": 5, "hidden": (6, 9)},
    "tanh": {"channels": 5, "activation": "tanh"},
    "leaky_relu": {"channels": 5, "activation": "leaky_relu"},
    "elu": {"channels": 5, "activation": "elu"},
    "gelu": {"channels": 5, "activation": "gelu"},
    "silu": {"channels": 5, "activation": "silu"},
    "running": {"channels": 5, "norm": "running"},
    "batch": {"channels": 5, "norm": "batch"},
    "group": {"channels": 5, "norm": "group", "hidden": 6, "norm_groups": 2},
    "instance": {"channels": 5, "norm": "instance"},
    "layer": {"channels": 5, "norm": "layer", "hidden": (6, 9)},
    "alive": {"channels": 5, "alive": Alive(channel=1, threshold=0.5, pre=False)},
    "alive 5": {"channels": 5, "alive": Alive(channel=4, threshold=0.5, pool=5, pre=False)},
}


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
@pytest.mark.parametrize("name", PARTS)
def test_one_bad_cell_spreads_as_in_the_reference(name, value, isa):
    """The same numbers are NaN, or infinite, in every cell and channel, and no other: vectors read their neighbours."""
    rule = Rule(**({"hidden": (11,)} | PARTS[name]))
    for place in ((0, 0, 0, 0), (1, rule.channels - 1, 4, 6), (1, rule.channels // 2, 8, 10)):
        x = make_state(rule, (9, 11), torch.float32)
        x[place] = value
        for steps in (1, 2, 3):
            masks = make_masks(rule, steps, (9, 11))
            masks = masks if rule.alive is None else torch.ones_like(masks)
            want = chosen(rule, x, masks)
            got = rollout(x, rule, make_params(rule, torch.float32), steps, fire_mask=masks, backend="cpu")
            assert torch.equal(got.isnan(), want.isnan()), (place, steps)
            assert torch.equal(got.isinf(), want.isinf()), (place, steps)
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("pool", [1, 3, 5])
def test_nan_in_the_alive_channel_kills_its_window(pool, isa):
    """max_pool of some numbers and a NaN is NaN, which is not above the threshold."""
    rule = Rule(
        channels=5, hidden=(6,), num_filters=0, fire_rate=0.0, alive=Alive(channel=2, threshold=-9.0, pool=pool)
    )
    x = make_state(rule, (9, 11), torch.float32)
    x[0, 2, 4, 5] = math.nan
    want, got = both(rule, x, 1, seed=4)
    others = torch.ones(9, 11, dtype=torch.bool)
    others[4, 5] = False
    assert torch.equal(got[..., others], want[..., others])
    assert (got == 0).sum() == 5 * pool**2 - 1


@pytest.mark.parametrize("pool", [1, 3, 5])
def test_a_dead_cell_can_keep_its_neighbour_alive(pool):
    """Dead cells are skipped, but not those that count for a living neighbour after the step."""
    reach = pool // 2
    rule = Rule(channels=4, hidden=(1,), num_filters=0, activation="identity", alive=Alive(threshold=0.0, pool=pool))
    params = {
        "hidden.weight": torch.eye(4)[3:],
        "hidden.bias": torch.zeros(1),
        "update.weight": -2 * torch.eye(4)[:, 3:],
    }
    x = torch.full((1, 4, 7, 11), -1.0)
    x[0, 3, 3, 1] = 1.0  # the only cell above the threshold: it falls, and the one two windows on rises
    masks = torch.zeros(1, 1, 1, 7, 11, dtype=torch.bool)
    masks[..., 3, 1] = masks[..., 3, 1 + 2 * reach] = True
    want, got = (rollout(x, rule, params, 1, fire_mask=masks, backend=name) for name in ("reference", "cpu"))
    assert torch.equal(got, want)
    assert (got[0, 0, 3, 1 + reach] == -1) == (pool > 1)


def gradients(rule, leaves, size, names, backend="cpu", **options):
    """Gradients by name of those of x, extra and the parameters that `names` holds."""
    own = {name: value.detach().clone().requires_grad_(name in names) for name, value in leaves.items()}
    params = {name: own[name] for name in rule.param_shapes()}
    given = {"extra": own.get("extra"), "fire_mask": make_masks(rule, 4, size), "states": 2, "memory": 3}
    out, states = rollout(own["x"], rule, params, 4, backend=backend, **(given | options))
    loss = out.square().sum() + states.sin().sum()
    return dict(zip(names, torch.autograd.grad(loss, [own[name] for name in names]), strict=True))


@pytest.mark.parametrize(
    "name",
    [
        "extra",
        "batch norm",
        "batch norm plain",
        "running norm",
        "group norm",
        "layer norm deep",
        "dense",
        "three hidden",
    ],
)
def test_each_gradient_alone_has_the_bits_of_all_together(name, poisoned):
    rule, size = CASES[name]
    extra = make_extra(rule, size, torch.float32)
    leaves = {"x": make_state(rule, size, torch.float32), **make_params(rule, torch.float32)}
    leaves |= {} if extra is None else {"extra": extra}
    names = [key for key in leaves if "running" not in key]
    together = gradients(rule, leaves, size, names)
    for key in names:
        assert together[key].isfinite().all()
        assert torch.equal(gradients(rule, leaves, size, [key])[key], together[key]), key


@pytest.mark.parametrize("name", FUSED)
def test_every_element_of_every_output_is_written(name, poisoned, isa):
    """Memory comes filled with NaN: states, statistics, gradients hold none in the end."""
    rule, size = CASES[name]
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    extra, masks = make_extra(rule, size, torch.float32), make_masks(rule, 4, size)
    assert torch.empty(3).isnan().all()
    leaves = [x, *(p for key, p in params.items() if "running" not in key)] + ([] if extra is None else [extra])
    for leaf in leaves:
        leaf.requires_grad_()
    for options in ({"states": "all"}, {"states": 3, "memory": 2}, {"memory": "sqrt"}):
        out = rollout(x, rule, params, 4, fire_mask=masks, extra=extra, backend="cpu", **options)
        outputs = list(out) if isinstance(out, tuple) else [out]
        grads = torch.autograd.grad(sum(value.sum() for value in outputs), leaves)
        assert all(value.isfinite().all() for value in [*outputs, *grads])
    with torch.no_grad():
        assert rollout(x, rule, params, 4, fire_mask=masks, extra=extra, backend="cpu").isfinite().all()


def test_statistics_of_batch_norm_are_those_of_the_reference():
    from ncafast.trace import Options, trace

    rule, size = CASES["wide"]
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    wide = {name: p.double() for name, p in params.items()}
    want = trace(x.double(), rule, wide, 3, Options(seed=2, backend="reference")).stats
    got = trace(x, rule, params, 3, Options(seed=2, backend="cpu")).stats
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


def test_running_statistics_get_a_zero_gradient():
    """They are constants; asked for all the same, their gradient is zero as on the reference."""
    rule, size = CASES["running norm"]
    leaves = {"x": make_state(rule, size, torch.float32), **make_params(rule, torch.float32)}
    names = list(rule.param_shapes())
    for key, grad in gradients(rule, leaves, size, names).items():
        assert (grad.abs().sum() == 0) == ("running" in key), key


def test_strided_inputs_give_the_same_bits():
    rule, size = CASES["extra"]
    rule = rule.replace(filter_bias=True, update_bias=True)
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    extra, masks = make_extra(rule, size, torch.float32), make_masks(rule, 4, size)
    leaves = {"x": x, "extra": extra, **params}
    names = list(leaves)
    want = gradients(rule, leaves, size, names)

    def apart(value):
        return torch.stack((value, torch.full_like(value, math.nan)), -1)[..., 0]

    strided = {name: apart(value) for name, value in leaves.items()}
    assert not strided["x"].is_contiguous()
    own = {name: value.detach().requires_grad_() for name, value in strided.items()}
    own["x"] = x.to(memory_format=torch.channels_last).detach().requires_grad_()
    params = {name: own[name] for name in rule.param_shapes()}
    mask = masks.movedim(-1, 0).contiguous().movedim(0, -1).float()
    out, states = rollout(
        own["x"], rule, params, 4, extra=own["extra"], fire_mask=mask, states=2, memory=3, backend="cpu"
    )
    loss = out.square().sum() + states.sin().sum()
    for name, grad in zip(names, torch.autograd.grad(loss, [own[name] for name in names]), strict=True):
        assert torch.equal(grad, want[name]), name
    # Gradients of a permuted or repeated output arrive strided.
    out = rollout(own["x"], rule, params, 4, extra=own["extra"], fire_mask=masks, backend="cpu")
    (got,) = torch.autograd.grad((out.mT * torch.arange(out.shape[2]).expand_as(out.mT)).sum(), own["x"])
    weight = torch.arange(out.shape[2]).expand_as(out.mT).mT.contiguous().float()
    out = rollout(own["x"], rule, params, 4, extra=own["extra"], fire_mask=masks, backend="cpu")
    assert torch.equal(got, torch.autograd.grad(out, own["x"], weight)[0])


@pytest.mark.parametrize(
    "name", ["batch norm", "group norm", "instance norm", "layer norm", "extra", "alive", "dense", "3d"]
)
def test_zero_batch_zero_steps_and_one_of_each(name, poisoned):
    rule, size = CASES[name]
    params = {key: p.requires_grad_() for key, p in make_params(rule, torch.float32).items()}
    extra = make_extra(rule, size, torch.float32, batch=1)
    for batch, steps in ((0, 3), (0, 0), (1, 0), (3, 0), (1, 1), (3, 1)):
        x = make_state(rule, size, torch.float32, batch).requires_grad_()
        grads = []
        for backend in ("reference", "cpu"):
            out, states = rollout(x, rule, params, steps, seed=5, extra=extra, states="all", backend=backend)
            assert out.shape == x.shape and states.shape == (steps, *x.shape)
            loss = out.square().sum() + states.sum()
            grads.append([out, states, *torch.autograd.grad(loss, [x, *params.values()])])
        for want, got in zip(*grads, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
        if steps == 0:
            assert torch.equal(grads[1][0], x)
            assert batch == 0 or grads[1][0].data_ptr() != x.data_ptr()


def test_no_steps_and_no_cells_that_fire_leave_the_bits_alone():
    rule = CASES["2d"][0].replace(fire_rate=0.0)
    x, params = make_state(rule, (5, 7), torch.float32), make_params(rule, torch.float32)
    assert torch.equal(rollout(x, rule, params, 3, seed=1, backend="cpu"), x)
    masks = torch.zeros(3, 1, 1, 5, 7)
    assert torch.equal(rollout(x, rule.replace(fire_rate=1.0), params, 3, fire_mask=masks, backend="cpu"), x)


@pytest.mark.parametrize(("norm", "batch"), [("batch", 1), ("instance", 2)])
def test_norm_over_a_single_cell(norm, batch):
    """The variance is zero: what is left is the bias, to within rounding times 1 / sqrt(eps)."""
    rule, size = CASES["one cell"]
    rule = rule.replace(norm=norm, fire_rate=1.0)
    x = make_state(rule, size, torch.float32, batch).requires_grad_()
    want, got = both(rule, x, 2)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-3)
    (grad,) = torch.autograd.grad(got.sum(), x)
    torch.testing.assert_close(grad, torch.ones_like(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_norm_of_states_that_move_together(norm):
    """All cells move by 1 a step and differ by 0.01: the variance keeps its digits."""
    rule = Rule(channels=8, hidden=(32,), norm=norm, padding="circular", activation="gelu", update_bias=True)
    x, params = 0.01 * make_state(rule, (12, 10), torch.float32), make_params(rule, torch.float32)
    params["update.weight"] *= 0.01
    params["update.bias"].fill_(1.0)
    masks = torch.ones(4, 1, 1, 12, 10)
    results = []
    for backend, dtype in (("reference", torch.float64), ("reference", torch.float32), ("cpu", torch.float32)):
        own, state = {key: p.to(dtype) for key, p in params.items()}, x.to(dtype).requires_grad_()
        out = rollout(state, rule, own, 4, fire_mask=masks, backend=backend)
        weight = make_state(rule, (12, 10), torch.float32, seed=3).to(dtype)
        results.append((out, torch.autograd.grad(out, state, weight)[0]))
    for want, plain, ours in zip(*results, strict=True):
        assert (ours - want).abs().max() <= 4 * (plain - want).abs().max()


def test_sums_over_many_cells_keep_their_digits():
    """200 000 cells and steps of one sign in one thread: float32 sums would be off by 1e-5 and more."""
    rule = Rule(
        channels=2, hidden=(4,), num_filters=1, filter_bias=True, update_bias=True, activation="gelu", step_size=0.1
    )
    x, params = make_state(rule, (160, 160), torch.float32, 1).abs(), make_params(rule, torch.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        grads = []
        for backend, dtype in (("reference", torch.float64), ("cpu", torch.float32)):
            own = {key: p.to(dtype).requires_grad_() for key, p in params.items()}
            out = rollout(x.to(dtype), rule.replace(fire_rate=1.0), own, 8, backend=backend)
            grads.append(torch.autograd.grad(out.square().mean(), list(own.values())))
    finally:
        torch.set_num_threads(threads)
    for want, got in zip(*grads, strict=True):
        assert (got - want).abs().max() <= 1.5e-6 * want.abs().max()


def test_what_is_not_fused_says_why_and_still_runs():
    x = torch.zeros(1, 4, 5, 5)
    for changes, reason in (
        ({"activation": "leaky_relu", "negative_slope": -0.5}, "negative_slope below 0 .-0.5. is not fused"),
        ({"norm": "group", "hidden": (5, 6)}, "norm='group' with 2 hidden layers is not fused"),
        ({"norm": "instance", "hidden": (5, 6)}, "norm='instance' with 2 hidden layers is not fused"),
        ({"norm": "batch", "hidden": (5, 6)}, "norm='batch' with 2 hidden layers is not fused"),
        ({"noise": "update", "noise_std": 0.1}, "noise='update' is not fused"),
        ({"hidden": (3, 3, 3, 3, 3)}, "5 hidden layers are too many"),
    ):
        rule = Rule(**({"channels": 4, "hidden": (5,)} | changes))
        assert backends.choose(rule, x) == "reference"
        with pytest.raises(RuntimeError, match=reason):
            rollout(x, rule, make_params(rule, torch.float32), 1, backend="cpu")
    for other, reason in ((x.double(), "float64"), (x.to("meta"), "meta")):
        assert reason in backends.explain(Rule(channels=4), other)["cpu"]


def test_seeds_and_samples_at_the_end_of_their_range():
    rule, size = CASES["2d"]
    x, params = make_state(rule, size, torch.float32, batch=3), make_params(rule, torch.float32)
    for seed in (0, 2**63 - 1, 2**63, 2**64 - 1):
        where = {"first_step": 2**32 - 4, "first_sample": 2**32 - 3, "seed": seed}
        want, got = (rollout(x, rule, params, 4, backend=name, **where) for name in ("reference", "cpu"))
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
