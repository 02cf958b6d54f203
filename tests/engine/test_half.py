"""Half-precision states: in memory only, with float32 inside a step, on every backend that takes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from cases import CASES, make_extra, make_params, make_state
from parity import check_half

from ncafast import Alive, Rule, backends, rollout
from ncafast.backends.precision import precision, use_precision
from ncafast.heads import MaxPoolHead
from ncafast.models import MaxNCA
from ncafast.trace import Options, trace

HALF = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", CASES)
def test_a_step_is_the_float64_step_rounded_once(name, dtype):
    check_half("reference", name, dtype)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["batch norm", "alive, restore", "update noise"])
def test_a_rollout_is_its_steps_one_after_the_other(name, dtype):
    """Bit for bit: states and the gradient between steps hold nothing that their dtype does not."""
    rule, size = CASES[name]
    params = {key: p.requires_grad_() for key, p in make_params(rule, torch.float32).items()}
    x, weight = make_state(rule, size, dtype).requires_grad_(), torch.randn(3, 2, rule.channels, *size).to(dtype)
    options = {"seed": 3, "backend": "reference"}
    _, states = rollout(x, rule, params, 3, states="all", **options)
    whole = torch.autograd.grad(states, x, weight)[0]
    before = [x]
    for t in range(3):
        before.append(rollout(before[-1], rule, params, 1, first_step=t, **options))
    assert torch.equal(states, torch.stack(before[1:]))
    assert torch.equal(whole, torch.autograd.grad(before[1:], x, weight.unbind())[0])


@pytest.mark.parametrize("dtype", HALF)
def test_fire_masks_do_not_depend_on_the_dtype(dtype):
    """Steps that add 1 to integers are exact in every dtype."""
    rule = Rule(channels=1, hidden=1, num_filters=0, activation="identity", fire_rate=0.4)
    params = {
        "hidden.weight": torch.zeros(1, 1), "hidden.bias": torch.ones(1), "update.weight": torch.ones(1, 1)
    }  # fmt: skip
    x = torch.zeros(3, 1, 19, 23)
    options = {"seed": 5, "first_step": 9, "first_sample": 2, "backend": "reference"}
    assert torch.equal(rollout(x.to(dtype), rule, params, 6, **options).float(), rollout(x, rule, params, 6, **options))


@pytest.mark.parametrize("dtype", HALF)
def test_the_alive_mask_is_that_of_the_rounded_state(dtype):
    """1 + eps / 4 is above the threshold 1 before it is rounded, and not after."""
    rule = Rule(
        channels=1, hidden=1, num_filters=0, activation="identity", fire_rate=1.0, alive=Alive(0, 1.0, pre=False)
    )
    step = torch.finfo(dtype).eps / 4
    params = {"hidden.weight": torch.zeros(1, 1), "hidden.bias": torch.ones(1), "update.weight": torch.ones(1, 1)}
    x = torch.ones(1, 1, 2, 3)
    for kind, alive in ((torch.float32, True), (dtype, False)):
        own = params | {"update.weight": torch.full((1, 1), step)}
        assert bool((rollout(x.to(kind), rule, own, 1, backend="reference") != 0).all()) == alive


def test_sums_over_cells_do_not_overflow_where_float16_would():
    rule = Rule(channels=1, hidden=1, num_filters=0, activation="identity", fire_rate=1.0)
    params = {name: torch.ones(shape, requires_grad=True) for name, shape in rule.param_shapes().items()}
    x = torch.ones(1, 1, 300, 300, dtype=torch.float16)
    rollout(x, rule, params, 1, backend="reference").float().sum().backward()
    assert params["hidden.bias"].grad.item() == 300 * 300  # more than 65504


@pytest.mark.parametrize(("kind", "params"), [(dtype, own) for dtype in HALF for own in (dtype, torch.float32)])
def test_memory_is_that_of_the_dtype(kind, params):
    rule, size = CASES["batch norm"]
    x = make_state(rule, size, kind).requires_grad_()
    weights = {key: p.requires_grad_() for key, p in make_params(rule, params).items()}
    done = trace(x, rule, weights, 3, Options(states="all"))
    assert done.out.dtype == done.states.dtype == kind
    assert done.stats.dtype == torch.float32
    done.states.sum().backward()
    assert x.grad.dtype == kind
    assert all(p.grad.dtype == params for p in weights.values())


def test_which_dtypes_go_together():
    rule, size = CASES["extra"]
    half = torch.float16
    x, extra, params = make_state(rule, size, half), make_extra(rule, size, half), make_params(rule, half)
    wider = {key: p.float() for key, p in params.items()}
    for own in (params, wider):
        for more in (extra, extra.float()):
            assert rollout(x, rule, own, 1, seed=0, extra=more).dtype == half
    for state, own, more in (
        (x.bfloat16(), params, extra.bfloat16()),
        (x.float(), params, extra.float()),
        (x, {key: p.double() for key, p in params.items()}, extra),
        (x, params, extra.bfloat16()),
    ):
        with pytest.raises(TypeError, match=r"convert one of them"):
            rollout(state, rule, own, 1, seed=0, extra=more)
        with pytest.raises(TypeError, match="beside a state of"):
            plan = (1, 0, 0, 0, 0, "ieee")
            seed = torch.zeros(1, dtype=torch.int64)
            torch.ops.ncafast.rollout(state, list(own.values()), more, None, seed, rule.to_json(), "reference", *plan)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_heads_name_the_dtypes_that_do_not_go_together(dtype):
    """As a rollout does, though one of float16 runs with float32 weights."""
    model = MaxNCA(6, device="cpu", hidden_size=9, num_classes=4)
    with pytest.raises(TypeError, match=f"is torch.float32, but x is {dtype}; convert one of them"):
        model(torch.rand(1, 9, 8, 6, dtype=dtype), steps=1)
    with pytest.raises(TypeError, match=f"classifier.0.weight is torch.float32, but x is {dtype}; convert one of them"):
        MaxPoolHead(6, 4)(torch.rand(1, 6, 9, 8, dtype=dtype))
    assert model.to(dtype)(torch.rand(1, 9, 8, 6, dtype=dtype), steps=1)[0].dtype == dtype


@pytest.mark.parametrize("dtype", HALF)
def test_operator_and_compiled_rollouts(dtype):
    rule, size = CASES["extra"]
    x, extra = make_state(rule, size, dtype).requires_grad_(), make_extra(rule, size, torch.float32).requires_grad_()
    params = [p.requires_grad_() for p in make_params(rule, torch.float32).values()]
    seed, plan = torch.ones(1, dtype=torch.int64), (2, 0, 0, 1, 1, "ieee")
    args = (x, params, extra, None, seed, rule.to_json(), "reference", *plan)
    torch.library.opcheck(torch.ops.ncafast.rollout.default, args)


def test_products_of_half_precision_states_have_eager_bits(monkeypatch):
    """Half-precision operands have no more bits than TF32's, so that this is the default, for nn.Linear too."""
    monkeypatch.delenv("NCAFAST_PRECISION", raising=False)
    x = torch.zeros(1, 1, 2, 2)
    assert precision(x, linear=True) == "ieee"
    assert precision(x.half(), linear=True) == precision(x.bfloat16()) == "tf32"
    with torch.autocast("cpu"):
        assert precision(x.half(), linear=True) == "ieee"
    with use_precision("ieee"):
        assert precision(x.half()) == "ieee"


def test_the_cpu_backend_takes_float32_alone_and_says_so(monkeypatch):
    monkeypatch.setattr(backends.get("cpu"), "unavailable", lambda: None)
    x = torch.zeros(1, 16, 4, 4, dtype=torch.float16)
    reason = "the state is torch.float16, this backend takes torch.float32"
    assert backends.get("cpu").can_run(Rule(), x) == reason


def test_the_page_runs():
    page = Path(__file__).resolve().parents[2] / "docs" / "half-precision.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(block, {})
