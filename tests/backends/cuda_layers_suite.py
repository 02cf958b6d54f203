"""The CUDA backend's kernels for layered rules: wide or several hidden layers, dense perception, many channels.

Those of csrc/cuda/layers.h. Run as tests/backends/gpu_suite.py is, and by tests/backends/test_cuda.py.
"""

from __future__ import annotations

import pytest
import torch
from cases import CASES, make_params, make_state
from gpu_suite import BACKEND, DEVICE, exact_products, refused  # noqa: F401  (a fixture)
from parity import check_case, run

from ncafast import Alive, Rule, native
from ncafast.backends.native_call import rule_numbers, three_axes
from ncafast.backends.precision import use_precision
from ncafast.rule import ACTIVATIONS, PADDINGS

# Each of what the other kernels do not take; widths at their most, and one past what they take. Activations without a
# kink where there are many units, some of which lie closer to it than rounding.
CASES["layers, hidden 256"] = (Rule(channels=16, hidden=(256,), norm="running", mutable=(3, 16)), (5, 9))
CASES["layers, hidden 129"] = (Rule(channels=5, hidden=(129,), fire_rate=1.0, filter_bias=True), (4, 7))
CASES["layers, 64 channels"] = (
    Rule(channels=64, hidden=(40,), num_filters=3, activation="elu", restore=(60, 64)),
    (4, 5),
)
CASES["layers, 33 channels"] = (Rule(channels=33, hidden=(9,), num_filters=1, padding="reflect"), (5, 4))
CASES["layers, perception 500"] = (Rule(channels=62, hidden=(20,), num_filters=7, extra=4), (3, 5))
CASES["layers, two"] = (
    Rule(channels=6, hidden=(256, 256), activation="silu", norm="running", alive=Alive(threshold=0.5)),
    (6, 5),
)
CASES["layers, four"] = (Rule(channels=6, hidden=(40, 17, 130, 8), activation="gelu", update_bias=True), (9, 13))
CASES["layers, dense"] = (
    Rule(
        channels=20, hidden=(256, 100), perception="dense", dense_channels=70, dense_activation="tanh",
        activation="gelu", filter_bias=True, extra=3, padding="circular",
    ),
    (11, 13),
)  # fmt: skip
CASES["layers, dense 3d"] = (
    Rule(channels=5, ndim=3, hidden=(12,), perception="dense", dense_channels=9, dense_activation="silu"),
    (3, 4, 6),
)
CASES["layers, dense 1d k5"] = (
    Rule(channels=3, ndim=1, hidden=(8,), kernel_size=5, perception="dense", dense_channels=33, padding="replicate"),
    (41,),
)
CASES["layers, dense 256"] = (
    Rule(channels=64, hidden=(16,), perception="dense", dense_channels=256, identity=False, filter_bias=True),
    (3, 4),
)
CASES["layers, 3d"] = (Rule(channels=4, ndim=3, hidden=(9, 8), num_filters=2, padding="circular"), (5, 6, 4))
# Several tiles along an axis, the last ones cut by the grid, and cells that several places of the padding show.
for _padding in PADDINGS:
    CASES[f"layers, tiles {_padding}"] = (
        Rule(channels=7, hidden=(20, 12), perception="dense", dense_channels=18, padding=_padding, filter_bias=True),
        (11, 18),
    )
for _activation in ACTIVATIONS:
    CASES[f"layers, {_activation}"] = (
        Rule(
            channels=3, hidden=(5, 6), activation=_activation, dense_activation=_activation, perception="dense",
            dense_channels=4, negative_slope=0.2,
        ),
        (4, 5),
    )  # fmt: skip
NAMES = [name for name in CASES if name.startswith("layers")]
SOME = ["layers, two", "layers, dense", "layers, 64 channels"]


@pytest.mark.parametrize("name", NAMES)
def test_parity_with_float64(name):
    check_case(BACKEND, name, 2, DEVICE, small=3e-6)


@pytest.mark.parametrize("fixed", [("perceive.weight",), ("extra",), ("perceive.weight", "perceive.bias", "extra")])
def test_parity_where_some_parameters_are_fixed(fixed):
    check_case(BACKEND, "layers, dense", 2, DEVICE, small=3e-6, fixed=fixed)


@pytest.mark.parametrize("memory", [2, "sqrt"])
@pytest.mark.parametrize("name", ["layers, tiles circular", "layers, 3d"])
def test_parity_where_states_are_computed_again(name, memory):
    check_case(BACKEND, name, 5, DEVICE, small=3e-6, memory=memory, states=2)


@pytest.mark.parametrize(("precision", "small"), [("tf32x3", 1e-5), ("tf32", 2e-2), ("bf16", 1e-1)])
@pytest.mark.parametrize("name", SOME)
def test_parity_in_other_precisions(name, precision, small):
    with use_precision(precision):
        check_case(BACKEND, name, 2, DEVICE, small=small)


@pytest.mark.parametrize("name", ["layers, dense", "layers, two"])
def test_two_runs_give_the_same_bits(name):
    """Drawn masks, first steps and samples included."""
    rule, size = CASES[name]
    weight = torch.randn(3, 2, rule.channels, *size)
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    extra = torch.randn(3, 1, rule.extra, *size) if rule.extra else None
    given = {"device": DEVICE, "seed": 1, "first_step": 2**32 - 3, "first_sample": 3}
    first, again = (run(BACKEND, rule, x, params, None, extra, weight, **given) for _ in "12")
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_nan_stays_where_cells_do_not_fire():
    rule, size = Rule(channels=3, hidden=(4, 5), num_filters=0), (3, 5)
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    x[1, :, 2, 2] = torch.nan
    masks = torch.ones(2, 2, 1, *size, dtype=torch.bool)
    masks[:, 1, :, 2, 2] = False
    weight = torch.ones(2, 2, rule.channels, *size)
    out, _, _, *grads = run(BACKEND, rule, x, params, masks, None, weight, device=DEVICE)
    assert torch.equal(out.isnan(), x.isnan())
    assert all(grad.isfinite().all() for grad in grads)


def test_a_trail_takes_some_tiles_at_a_time():
    """Gradients of layers go through a workspace that does not grow with the grid beyond the states themselves."""
    rule = Rule(channels=16, hidden=(256, 256))
    module, place = native.load_cuda(), (0, 3, 0, 0, 0)
    numbers = {
        "rule": rule_numbers(rule), "plan": (2, 0, 0, 1, 1), "state": 0, "x": 0, "seed": 0, "params": {},
        "gradients": {"x": 0},
    }  # fmt: skip
    small, large = (
        module.workspace_bytes({"batch": 1, "size": three_axes((side, side)), **numbers}, place, True)
        for side in (128, 256)
    )
    cells = 256**2 - 128**2
    perception, states = -(-rule.perception_size // 16) * 16, 3 * rule.channels
    assert large - small < 4 * cells * (perception + states) * 1.05


@pytest.mark.parametrize(("name", "fixed", "last"), [("dense", False, "dense_back"), ("two", True, "sum_layers")])
def test_launches_of_a_step(name, fixed, last):
    rule, size = CASES[f"layers, {name}"]
    made = native.load_cuda().launches(rule_numbers(rule), 2, three_axes(size), fixed, 3)
    first, *_ = kernels = [kernel for kernel, *_ in made]
    assert (first, *kernels[-2:]) == ("layers_step", last, "perception_backward")
    assert "filters_back" not in kernels
    for _, box, tiles, _, _ in made[:3]:
        per_axis = [-(-length // side) for length, side in zip(three_axes(size), box, strict=True)]
        assert tiles == 2 * per_axis[0] * per_axis[1] * per_axis[2]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Rule(hidden=257), "a hidden layer of 257: at most 256 have kernels"),
        (Rule(channels=65), "65 channels: at most 64 have kernels"),
        (Rule(channels=60, num_filters=8), "a perception of 540: at most 512 have kernels"),
        (Rule(perception="dense", dense_channels=257), "257 outputs of a dense convolution: at most 256 have kernels"),
        (Rule(hidden=200, norm="batch"), "batch norm has kernels only for one hidden layer of at most 128"),
        (Rule(channels=64, ndim=3, kernel_size=7), "needs more shared memory than a block of this GPU has"),
    ],
)
def test_what_has_no_kernels_is_named(rule, reason):
    assert reason in refused(rule, (40,) * rule.ndim)
