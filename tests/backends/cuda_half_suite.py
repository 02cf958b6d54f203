"""Half-precision states on the CUDA backend: in memory only, whatever kernels load and store them.

All of them go through the kernels of csrc/cuda/layers.h, narrow rules too; gpu_suite.py has the common table. Run as
tests/backends/gpu_suite.py is, and by tests/backends/test_cuda.py.
"""

from __future__ import annotations

import pytest
import torch
from cases import CASES, make_params, make_state
from cuda_layers_suite import NAMES
from gpu_suite import BACKEND, DEVICE, HALF, exact_products, refused  # noqa: F401  (a fixture)
from parity import check, check_half, inputs, run

from ncafast import Alive, Rule, rollout
from ncafast.backends.precision import use_precision

SOME = ["2d", "3d circular", "extra", "alive, restore", "layers, two", "layers, dense", "layers, 33 channels"]
ONE = Rule(channels=1, hidden=1, num_filters=0, activation="identity", fire_rate=1.0)

each_half = pytest.mark.parametrize("dtype", HALF)


def one_params(**values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of ONE: an update of 1, unless told otherwise."""
    made = {"hidden.weight": torch.zeros(1, 1), "hidden.bias": torch.ones(1), "update.weight": torch.ones(1, 1)}
    return {name: value.to(DEVICE) for name, value in (made | values).items()}


@each_half
@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_half_precision_states_is_rounded_once(name, dtype):
    check_half(BACKEND, name, dtype, DEVICE)


@each_half
@pytest.mark.parametrize("name", SOME)
def test_a_rollout_is_its_steps_one_after_the_other(name, dtype):
    """Bit for bit: states and the gradient between steps hold nothing that their dtype does not."""
    rule, size = CASES[name]
    params = {key: p.to(DEVICE) for key, p in make_params(rule, torch.float32).items()}
    x = make_state(rule, size, dtype).to(DEVICE).requires_grad_()
    extra = torch.randn(2, rule.extra, *size).to(DEVICE) if rule.extra else None
    weight = torch.randn(3, 2, rule.channels, *size).to(DEVICE, dtype)
    options = {"seed": 3, "backend": BACKEND, "extra": extra}
    _, states = rollout(x, rule, params, 3, states="all", memory=2, **options)
    whole = torch.autograd.grad(states, x, weight)[0]
    before = [x]
    for t in range(3):
        before.append(rollout(before[-1], rule, params, 1, first_step=t, **options))
    assert torch.equal(states, torch.stack(before[1:]))
    assert torch.equal(whole, torch.autograd.grad(before[1:], x, weight.unbind())[0])


@each_half
@pytest.mark.parametrize("name", ["layers, two", "layers, tiles reflect", "layers, dense 3d"])
def test_rollouts_are_those_of_the_reference(name, dtype):
    """Not bit for bit: a sum in float32 that lies between two numbers may be rounded to either."""
    rule, size = CASES[name]
    weight = torch.randn(3, 2, rule.channels, *size).to(dtype)
    x, params, masks, extra = given = inputs(name, dtype, 3)
    plain = run("reference", rule, *given, weight, memory=2)
    ours = run(BACKEND, rule, *given, weight, device=DEVICE, memory=2)
    exact = x.double(), {key: p.double() for key, p in params.items()}, masks, None if extra is None else extra.double()
    check(ours, plain, run("reference", rule, *exact, weight.double(), memory=2), 2 * torch.finfo(dtype).eps)


@each_half
@pytest.mark.parametrize(("precision", "small"), [("tf32x3", 1e-5), ("tf32", 2e-2), ("bf16", 1e-1)])
def test_parity_in_other_precisions(dtype, precision, small):
    rule, size = CASES["layers, dense"]
    weight = torch.randn(2, 2, rule.channels, *size).to(dtype)
    x, params, masks, extra = given = inputs("layers, dense", dtype, 2)
    plain = run("reference", rule, *given, weight)
    with use_precision(precision):
        ours = run(BACKEND, rule, *given, weight, device=DEVICE)
    exact = x.double(), {key: p.double() for key, p in params.items()}, masks, extra.double()
    check(ours, plain, run("reference", rule, *exact, weight.double()), max(small, 2 * torch.finfo(dtype).eps))


@each_half
def test_every_number_survives_no_steps(dtype):
    x = torch.arange(2**16).to(torch.int32).to(torch.int16).view(dtype).reshape(1, 1, 128, 512)
    out = rollout(x.to(DEVICE), ONE, one_params(), 0, backend=BACKEND).cpu()
    assert torch.equal(out.isnan(), x.isnan())
    assert torch.equal(out.view(torch.int16)[~x.isnan()], x.view(torch.int16)[~x.isnan()])


@each_half
def test_numbers_are_rounded_as_torch_rounds_them(dtype):
    """An extra channel in float32 is what a step adds to zeros: ties, the largest, subnormal ones, no numbers."""
    rule = Rule(channels=1, ndim=1, hidden=1, num_filters=0, activation="identity", fire_rate=1.0, extra=1)
    info, draw = torch.finfo(dtype), torch.Generator().manual_seed(3)
    ties = torch.randint(2**16, (4096,), generator=draw).to(torch.int16).view(dtype).float()
    ties = ties[ties.isfinite()] + ties[ties.isfinite()].abs() * info.eps / 4 * torch.tensor([[-2.0], [-1], [1], [2]])
    small = info.smallest_normal * torch.randn(2000, generator=draw)
    halves = torch.arange(-40, 40) * info.smallest_normal * info.eps / 2
    edges = torch.tensor([info.max, info.max * (1 + info.eps / 4), 3.4e38, torch.nan, 1e-45, 0.0])
    extra = torch.cat((ties.flatten(), small, halves, edges, -edges))[None, None]
    params = one_params(**{"hidden.weight": torch.tensor([[0.0, 1.0]]), "hidden.bias": torch.zeros(1)})
    x = torch.zeros(1, 1, extra.shape[-1], dtype=dtype)
    out = rollout(x.to(DEVICE), rule, params, 1, extra=extra.to(DEVICE), backend=BACKEND).cpu()
    torch.testing.assert_close(out, extra.to(dtype), rtol=0, atol=0, equal_nan=True)


@each_half
def test_fire_masks_do_not_depend_on_the_dtype(dtype):
    """Steps that add 1 to integers are exact in every dtype."""
    rule = ONE.replace(fire_rate=0.4)
    x = torch.zeros(3, 1, 37, 59)  # more than one tile
    options = {"seed": 5, "first_step": 9, "first_sample": 2}
    expected = rollout(x, rule, one_params(), 6, backend="reference", **options)
    found = rollout(x.to(DEVICE, dtype), rule, one_params(), 6, backend=BACKEND, **options)
    assert torch.equal(found.cpu().float(), expected)


@each_half
def test_the_alive_mask_is_that_of_the_rounded_state(dtype):
    """1 + eps / 4 is above the threshold 1 before it is rounded, and not after."""
    rule = ONE.replace(alive=Alive(0, 1.0, pre=False))
    params = one_params(**{"update.weight": torch.full((1, 1), torch.finfo(dtype).eps / 4)})
    x = torch.ones(1, 1, 2, 3, device=DEVICE)
    for kind, alive in ((torch.float32, True), (dtype, False)):
        assert bool((rollout(x.to(kind), rule, params, 1, backend=BACKEND) != 0).all()) == alive


@each_half
@pytest.mark.parametrize("name", ["layers, two", "layers, dense"])
def test_two_runs_give_the_same_bits_and_strides_do_not_matter(name, dtype):
    rule, size = CASES[name]
    weight = torch.randn(3, 2, rule.channels, *size).to(dtype)
    x, params = make_state(rule, size, dtype), make_params(rule, torch.float32)
    extra = torch.randn(3, 1, rule.extra, *size) if rule.extra else None
    given = {"device": DEVICE, "seed": 1, "first_step": 2**32 - 3, "first_sample": 3}
    permuted = x.movedim(1, -1).contiguous().movedim(-1, 1)
    first, again = (run(BACKEND, rule, state, params, None, extra, weight, **given) for state in (x, permuted))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@each_half
@pytest.mark.parametrize("name", ["extra", "layers, dense"])
def test_parameters_in_half_precision_are_those_numbers_in_float32(name, dtype):
    """Gradients are rounded once, from their sums in float32."""
    rule, size = CASES[name]
    weight = torch.randn(2, 2, rule.channels, *size).to(dtype)
    x, params, masks, extra = inputs(name, dtype, 2)
    found = run(BACKEND, rule, x, params, masks, extra, weight, device=DEVICE)
    master = {key: p.float() for key, p in params.items()}
    expected = run(BACKEND, rule, x, master, masks, extra.float(), weight, device=DEVICE)
    assert all(value.dtype == dtype for value in found)
    assert all(torch.equal(a, b.to(dtype)) for a, b in zip(found, expected, strict=True))


def test_sums_over_cells_do_not_overflow_where_float16_would():
    params = {name: value.requires_grad_() for name, value in one_params().items()}
    x = torch.ones(1, 1, 300, 300, dtype=torch.float16, device=DEVICE)
    rollout(x, ONE, params, 1, backend=BACKEND).float().sum().backward()
    assert params["hidden.bias"].grad.item() == 300 * 300  # more than 65504


@each_half
def test_what_has_no_kernels_is_named(dtype):
    name = str(dtype).removeprefix("torch.")
    assert refused(Rule(norm="batch"), (40, 40), dtype) == f"batch norm has no kernels for states of {name}"
    assert "65 channels: at most 64 have kernels" in refused(Rule(channels=65), (40, 40), dtype)
    assert refused(Rule(norm="running"), (40, 40), dtype) is None
    assert "torch.float64" in refused(Rule(), (40, 40), torch.float64)


@each_half
@pytest.mark.parametrize("channels", [16, 32, 64])
@pytest.mark.parametrize("hidden", [(128,), (256,), (256, 256)])
def test_the_widths_of_published_half_precision_models_have_kernels(dtype, channels, hidden):
    rule = Rule(channels=channels, hidden=hidden, num_filters=4, padding="circular", filter_bias=True)
    assert refused(rule, (128, 128), dtype) is None
    assert refused(rule.replace(ndim=3, kernel_size=3, num_filters=2), (32, 32, 32), dtype) is None
