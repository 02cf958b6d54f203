"""The Triton kernels against the float64 oracle: on a GPU if there is one, else in Triton's interpreter.

    TRITON_INTERPRET=1 NCAFAST_BACKEND=triton python -m pytest tests/triton_suite/kernels.py     (no GPU)
    NCAFAST_BACKEND=triton python -m pytest tests/triton_suite/kernels.py                        (GPU)

Not collected by itself, since the interpreter has to be switched on before Triton is imported; tests/test_triton.py
runs it.
"""

from __future__ import annotations

import dataclasses

import pytest
import test_cpu_random
import torch
from cases import CASES, make_params, make_state
from hypothesis import HealthCheck, assume, given, settings
from parity import check_case, run
from recorder import record

from ncafast import Alive, Rule, backends, philox, rollout
from ncafast.backends import graphs
from ncafast.backends.plan import Plan
from ncafast.backends.precision import use_precision
from ncafast.backends.triton_kernels.rollout import Rollout

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = DEVICE == "cpu"
RUNS = [
    name
    for name, (rule, size) in CASES.items()
    if backends.get("triton").can_run(rule, torch.zeros(1, 1, *size, device=DEVICE)) is None
]
LONG = {"3d k5 reflect": 1}  # steps of cases that take the interpreter minutes

# Besides the common table: several chunks of the perception, and of the first layer's gradient.
CASES["chunks"] = (Rule(channels=20, hidden=(24,), num_filters=4, filter_bias=True, padding="circular"), (3, 4))
CASES["chunks, norm"] = (Rule(channels=18, hidden=(20,), num_filters=4, norm="batch", padding="reflect"), (4, 5))
CASES["dense chunks, norm"] = (
    Rule(
        channels=4, hidden=(6,), perception="dense", dense_channels=70, dense_activation="gelu", norm="batch",
        filter_bias=True,
    ),
    (3, 4),
)  # fmt: skip
CASES["no eps"] = (Rule(channels=4, hidden=(20,), norm="batch", norm_eps=0.0, fire_rate=1.0), (6, 7))
CASES["many cells"] = (Rule(channels=3, hidden=(5,), num_filters=1, norm="batch"), (23, 29))
CASES["alive, deep, restore"] = (
    Rule(channels=4, hidden=(6, 5), alive=Alive(threshold=0.5), restore=(1, 3), norm="running", fire_rate=0.7),
    (5, 6),
)


@pytest.fixture(autouse=True)
def exact_products():
    torch.set_num_threads(1)  # tiny tensors: threads would only wait for each other
    with use_precision("ieee"):
        yield


@pytest.mark.parametrize("name", RUNS)
def test_parity_with_float64(name):
    check_case("triton", name, LONG.get(name, 3), DEVICE, small=3e-6)


@pytest.mark.parametrize(
    "name", ["chunks", "chunks, norm", "dense chunks, norm", "no eps", "many cells", "alive, deep, restore"]
)
def test_parity_where_tiles_and_chunks_are_several(name):
    check_case("triton", name, 2, DEVICE, small=3e-6)


@pytest.mark.parametrize("memory", [2, 3, "sqrt"])
@pytest.mark.parametrize("name", ["batch norm", "alive"])
def test_parity_where_states_are_computed_again(name, memory):
    check_case("triton", name, 5, DEVICE, small=3e-6, memory=memory, states=2)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter multiplies in float32 whatever it is asked for")
@pytest.mark.parametrize(("precision", "small"), [("tf32x3", 1e-5), ("tf32", 2e-2), ("bf16", 1e-1)])
def test_parity_in_other_precisions(precision, small):
    with use_precision(precision):
        check_case("triton", "wide", 3, DEVICE, small=small)


@pytest.mark.parametrize("extra_shape", [(2, 2, 4, 5), (1, 2, 1, 1), (3, 2, 2, 4, 1), (3, 1, 2, 1, 5)])
def test_extra_of_every_shape(extra_shape):
    rule, size = CASES["extra"]
    x, params = make_state(rule, size, torch.float64), make_params(rule, torch.float64)
    extra = torch.randn(extra_shape, dtype=torch.float64)
    weight = torch.randn(3, 2, rule.channels, *size, dtype=torch.float64)
    exact = run("reference", rule, x, params, None, extra, weight, seed=3)
    single = x.float(), {key: p.float() for key, p in params.items()}, None, extra.float(), weight.float()
    for found, expected in zip(run("triton", rule, *single, device=DEVICE, seed=3), exact, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("seed", "first_step", "first_sample"), [(0, 0, 0), (-(2**63), 7, 3), (2**63 - 1, 2**32 - 2, 2**32 - 2)]
)
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 1 - 2**-33])
def test_lists_hold_the_cells_of_the_mask(seed, first_step, first_sample, rate):
    rule, size = Rule(channels=1, hidden=1, fire_rate=rate), (37, 59)  # more than one block of cells
    x = torch.zeros(2, 1, *size, device=DEVICE)
    params = [torch.zeros(shape, device=DEVICE) for shape in rule.param_shapes().values()]
    plan = Plan(2, first_step, first_sample, 0, 0)
    own = Rollout(rule, x, params, None, None, torch.tensor([seed], device=DEVICE), plan, "ieee")
    for t in range(2):
        cells, count = own.lists(t, None)
        step = first_step + t
        drawn = philox.fire_mask(2, size, rate, torch.tensor([seed]), step=step, first_sample=first_sample).flatten()
        fired = drawn.nonzero().flatten().int()
        assert count.item() == len(fired)
        assert torch.equal(cells[: len(fired)].cpu(), fired)
        assert torch.equal(cells.cpu().sort().values, torch.arange(cells.numel(), dtype=torch.int32))


def test_drawn_masks_are_those_of_the_reference():
    rule, size = CASES["2d"]
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    options = {"seed": 11, "first_step": 5, "first_sample": 2}
    expected = rollout(x, rule, params, 4, backend="reference", **options)
    params = {key: p.to(DEVICE) for key, p in params.items()}
    found = rollout(x.to(DEVICE), rule, params, 4, backend="triton", **options).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_two_runs_give_the_same_bits_and_strides_do_not_matter():
    rule, size = CASES["batch norm"]
    weight = torch.randn(3, 2, rule.channels, *size)
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    first = run("triton", rule, x, params, None, None, weight, device=DEVICE, seed=1)
    permuted = x.movedim(1, -1).contiguous().movedim(-1, 1)
    again = run("triton", rule, permuted, params, None, None, weight, device=DEVICE, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("name", ["batch norm", "alive", "extra"])
def test_recorded_rollouts_give_the_same_bits(name, monkeypatch):
    if INTERPRETED:
        monkeypatch.setattr(graphs, "worth", lambda x, kept: True)
        monkeypatch.setattr(graphs, "shared", graphs.Graphs(record))
    rule, size = CASES[name]
    weight = torch.randn(3, 2, rule.channels, *size)
    found = {}
    for number in range(4):  # the last two from a graph
        x, params = make_state(rule, size, torch.float32) + number % 2, make_params(rule, torch.float32)
        extra = torch.randn(2, rule.extra, *size, generator=torch.Generator().manual_seed(0)) if rule.extra else None
        inputs = rule, x, params, None, extra, weight
        found[number] = run("triton", *inputs, device=DEVICE, seed=number % 2)
    assert len(graphs.shared._recorded) == 2
    for number in (0, 1):
        assert all(torch.equal(a, b) for a, b in zip(found[number], found[number + 2], strict=True))


def test_nan_stays_where_cells_do_not_fire():
    rule, size = Rule(channels=3, hidden=4, num_filters=0), (3, 5)
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    x[1, :, 2, 2] = torch.nan
    mask = torch.ones(2, 2, 1, *size, dtype=torch.bool)
    mask[:, 1, :, 2, 2] = False
    params = {key: p.to(DEVICE).requires_grad_() for key, p in params.items()}
    out = rollout(x.to(DEVICE), rule, params, 2, fire_mask=mask.to(DEVICE), backend="triton")
    assert torch.equal(out.cpu().isnan(), x.isnan())
    out.nansum().backward()
    assert all(p.grad.isfinite().all() for p in params.values())


def test_backward_has_the_precision_of_forward(monkeypatch):
    seen = []
    before = Rollout.__init__
    monkeypatch.setattr(Rollout, "__init__", lambda self, *args: seen.append(args[-1]) or before(self, *args))
    rule, size = CASES["batch norm"]
    params = {key: p.to(DEVICE).requires_grad_() for key, p in make_params(rule, torch.float32).items()}
    with use_precision("tf32x3"):
        out = rollout(make_state(rule, size, torch.float32).to(DEVICE), rule, params, 2, backend="triton")
    out.sum().backward()
    assert seen == ["tf32x3", "tf32x3"]


def test_zero_steps_and_zero_batch():
    rule, size = CASES["alive"]
    params = {key: p.to(DEVICE) for key, p in make_params(rule, torch.float32).items()}
    x = make_state(rule, size, torch.float32).to(DEVICE).requires_grad_()
    out = rollout(x, rule, params, 0, backend="triton")
    assert torch.equal(out, x)
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], torch.ones_like(x))
    assert rollout(x[:0], rule, params, 3, backend="triton").shape == (0, *x.shape[1:])


@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(test_cpu_random.calls())
def test_random_rules(call):
    rule, taps, cells = call.rule, 1, call.batch
    for kernel in call.rule.kernel_size:
        taps *= kernel
    for length in call.size:
        cells *= length
    if INTERPRETED:
        assume(taps * max(rule.num_filters, 1) <= 60 and cells <= 120)
    test_cpu_random.compare(dataclasses.replace(call, threads=1), "triton", DEVICE)
