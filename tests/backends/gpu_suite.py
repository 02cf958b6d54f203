"""What every GPU backend must do, against the float64 oracle: on a GPU, or on the CPU where it can be run there.

    cd tests/backends
    NCAFAST_BACKEND=cuda NCAFAST_CUDA_SHIM=$(python cuda_shim/build.py FOLDER) python -m pytest gpu_suite.py
    NCAFAST_BACKEND=triton TRITON_INTERPRET=1 python -m pytest gpu_suite.py                   (both without a GPU)
    NCAFAST_BACKEND=cuda python -m pytest gpu_suite.py                                        (GPU)

Not collected by itself, since a backend has to be told before it is imported where it is to run;
test_cuda.py and test_triton.py run it.
"""

from __future__ import annotations

import dataclasses
import os

import pytest
import test_cpu_random
import torch
from cases import CASES, make_params, make_state
from hypothesis import HealthCheck, assume, given, settings
from parity import check, check_case, check_half, inputs, run

from ncafast import Alive, Rule, backends, rollout
from ncafast.backends.precision import use_precision

BACKEND = os.environ.get("NCAFAST_BACKEND", "")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SLOW = DEVICE == "cpu"
if SLOW and BACKEND == "triton":
    import interpreter

    interpreter.round_to_nearest()
    interpreter.quicken()

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
# Without kinks: in bfloat16 a unit close to one may come to lie on its other side.
CASES["dense, smooth"] = (
    Rule(
        channels=4, hidden=(6,), perception="dense", dense_channels=5, identity=False, filter_bias=True,
        dense_activation="gelu", activation="gelu",
    ),
    (4, 5),
)  # fmt: skip
CASES["no eps"] = (Rule(channels=4, hidden=(20,), norm="batch", norm_eps=0.0, fire_rate=1.0), (6, 7))
CASES["many cells"] = (Rule(channels=3, hidden=(5,), num_filters=1, norm="batch"), (23, 29))
CASES["alive, deep, restore"] = (
    Rule(channels=4, hidden=(6, 5), alive=Alive(threshold=0.5), restore=(1, 3), norm="running", fire_rate=0.7),
    (5, 6),
)
CASES["layer norm, deep, alive"] = (
    Rule(channels=4, hidden=(6, 5), alive=Alive(threshold=0.5), restore=(1, 3), norm="layer", fire_rate=0.7),
    (5, 6),
)
CASES["group norm, many cells"] = (
    Rule(channels=3, hidden=(21,), num_filters=1, norm="group", norm_groups=3, norm_affine=False),
    (23, 29),
)
CASES["instance norm, alive, chunks"] = (
    Rule(channels=18, hidden=(20,), num_filters=4, norm="instance", alive=Alive(threshold=0.5), activation="tanh"),
    (4, 5),
)

STEPS = {  # 3 of all others; these take Triton's interpreter long
    "3d k5 reflect": 1,
    **dict.fromkeys(
        (
            "chunks",
            "chunks, norm",
            "dense chunks, norm",
            "no eps",
            "many cells",
            "alive, deep, restore",
            "layer norm, deep, alive",
            "group norm, many cells",
            "instance norm, alive, chunks",
        ),
        2,
    ),
}


def refused(rule: Rule, size: tuple[int, ...], dtype: torch.dtype = torch.float32) -> str | None:
    """Why the backend does not run this in float32 products."""
    with use_precision("ieee"):
        return backends.get(BACKEND).can_run(rule, torch.zeros(1, 1, *size, dtype=dtype, device=DEVICE), None)


RUNS = [name for name, (rule, size) in CASES.items() if refused(rule, size) is None]


def needs(*names: str):
    """The test is for rules that the backend may leave to others."""
    return pytest.mark.skipif(any(name not in RUNS for name in names), reason=f"{BACKEND} does not run {names}")


@pytest.fixture(autouse=True)
def exact_products():
    torch.set_num_threads(1)  # tiny tensors: threads would only wait for each other
    with use_precision("ieee"):
        yield


@pytest.mark.parametrize("name", RUNS)
def test_parity_with_float64(name):
    check_case(BACKEND, name, STEPS.get(name, 3), DEVICE, small=3e-6)


@pytest.mark.parametrize("memory", [2, 3, "sqrt"])
@pytest.mark.parametrize("name", [name for name in ("batch norm", "alive", "group norm") if name in RUNS])
def test_parity_where_states_are_computed_again(name, memory):
    check_case(BACKEND, name, 5, DEVICE, small=3e-6, memory=memory, states=2)


@pytest.mark.skipif(
    SLOW and BACKEND == "triton", reason="the interpreter multiplies in float32 whatever it is asked for"
)
@pytest.mark.parametrize("name", ["wide", "2d", "dense, smooth"])
@pytest.mark.parametrize(("precision", "small"), [("tf32x3", 1e-5), ("tf32", 2e-2), ("bf16", 1e-1)])
def test_parity_in_other_precisions(name, precision, small):
    rule, size = CASES[name]
    with use_precision(precision):
        reason = backends.get(BACKEND).can_run(rule, torch.zeros(1, 1, *size, device=DEVICE), None)
        if reason is not None:
            pytest.skip(reason)
        check_case(BACKEND, name, 3, DEVICE, small=small)


HALF = [torch.float16, torch.bfloat16]
RUNS_HALF = [name for name in RUNS if not any(refused(*CASES[name], dtype) for dtype in HALF)]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", [name for name in RUNS_HALF if name not in STEPS])
def test_a_step_of_half_precision_states_is_rounded_once(name, dtype):
    some = ("2d", "batch norm", "alive, restore", "dense", "extra")
    if SLOW and BACKEND == "triton" and dtype == torch.bfloat16 and name not in some:
        pytest.skip("Triton's interpreter takes long to convert bfloat16")
    check_half(BACKEND, name, dtype, DEVICE)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", [name for name in ("batch norm", "alive, restore", "extra") if name in RUNS_HALF])
def test_rollouts_of_half_precision_states_are_those_of_the_reference(name, dtype):
    """Not bit for bit: a sum in float32 that lies between two numbers may be rounded to either."""
    rule, size = CASES[name]
    weight = torch.randn(3, 2, rule.channels, *size).to(dtype)
    given = inputs(name, dtype, 3)
    plain = run("reference", rule, *given, weight, memory=2)
    ours = run(BACKEND, rule, *given, weight, device=DEVICE, memory=2)
    x, params, masks, extra = given
    exact = x.double(), {key: p.double() for key, p in params.items()}, masks, None if extra is None else extra.double()
    check(ours, plain, run("reference", rule, *exact, weight.double(), memory=2), 2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("extra_shape", [(2, 2, 4, 5), (1, 2, 1, 1), (3, 2, 2, 4, 1), (3, 1, 2, 1, 5)])
@needs("extra")
def test_extra_of_every_shape(extra_shape):
    rule, size = CASES["extra"]
    x, params = make_state(rule, size, torch.float64), make_params(rule, torch.float64)
    extra = torch.randn(extra_shape, dtype=torch.float64)
    weight = torch.randn(3, 2, rule.channels, *size, dtype=torch.float64)
    exact = run("reference", rule, x, params, None, extra, weight, seed=3)
    single = x.float(), {key: p.float() for key, p in params.items()}, None, extra.float(), weight.float()
    for found, expected in zip(run(BACKEND, rule, *single, device=DEVICE, seed=3), exact, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("seed", "first_step", "first_sample", "rate"),
    [(0, 0, 0, 0.0), (11, 5, 2, 0.5), (2**63, 7, 3, 0.3), (2**64 - 1, 2**32 - 2, 2**32 - 2, 1 - 2**-33)],
)
@needs("identity")
def test_drawn_masks_are_those_of_the_reference(seed, first_step, first_sample, rate):
    """With filters that see nothing, weights that say 1 and steps that double, a cell's number is its history."""
    rule = Rule(channels=1, hidden=1, num_filters=0, activation="identity", fire_rate=rate)
    params = {
        "hidden.weight": torch.ones(1, 1), "hidden.bias": torch.zeros(1), "update.weight": torch.ones(1, 1)
    }  # fmt: skip
    x = torch.ones(2, 1, 37, 59)  # more than one tile of cells
    options = {"seed": seed, "first_step": first_step, "first_sample": first_sample, "states": "all"}
    _, expected = rollout(x, rule, params, 2, backend="reference", **options)
    params = {key: p.to(DEVICE) for key, p in params.items()}
    _, found = rollout(x.to(DEVICE), rule, params, 2, backend=BACKEND, **options)
    assert torch.equal(found.cpu(), expected)


@needs("batch norm")
def test_two_runs_give_the_same_bits_and_strides_do_not_matter():
    rule, size = CASES["batch norm"]
    weight = torch.randn(3, 2, rule.channels, *size)
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    first = run(BACKEND, rule, x, params, None, None, weight, device=DEVICE, seed=1)
    permuted = x.movedim(1, -1).contiguous().movedim(-1, 1)
    again = run(BACKEND, rule, permuted, params, None, None, weight, device=DEVICE, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_nan_stays_where_cells_do_not_fire():
    rule, size = Rule(channels=3, hidden=4, num_filters=0), (3, 5)
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    x[1, :, 2, 2] = torch.nan
    mask = torch.ones(2, 2, 1, *size, dtype=torch.bool)
    mask[:, 1, :, 2, 2] = False
    params = {key: p.to(DEVICE).requires_grad_() for key, p in params.items()}
    out = rollout(x.to(DEVICE), rule, params, 2, fire_mask=mask.to(DEVICE), backend=BACKEND)
    assert torch.equal(out.cpu().isnan(), x.isnan())
    out.nansum().backward()
    assert all(p.grad.isfinite().all() for p in params.values())


@needs("alive")
def test_zero_steps_and_zero_batch():
    rule, size = CASES["alive"]
    params = {key: p.to(DEVICE) for key, p in make_params(rule, torch.float32).items()}
    x = make_state(rule, size, torch.float32).to(DEVICE).requires_grad_()
    out = rollout(x, rule, params, 0, backend=BACKEND)
    assert torch.equal(out, x)
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], torch.ones_like(x))
    assert rollout(x[:0], rule, params, 3, backend=BACKEND).shape == (0, *x.shape[1:])


@settings(
    max_examples=int(os.environ.get("NCAFAST_RANDOM_RULES", 25)),
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
    if SLOW:
        most_taps, most_cells = (60, 120) if BACKEND == "triton" else (400, 1500)
        assume(taps * max(rule.num_filters, 1) <= most_taps and cells <= most_cells)
    assume(refused(rule, call.size) is None)
    fixed = ("perceive.weight", "extra") if call.seed % 2 else ()
    test_cpu_random.compare(dataclasses.replace(call, threads=1, fixed=fixed), BACKEND, DEVICE)
