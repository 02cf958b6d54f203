"""The CUDA backend's two ways backward: which one is taken, and that both are right.

Where nothing but the states' gradient wants dL/dy of the perception it stays on the chip, see csrc/cuda/pushed.cuh. Run
as tests/gpu_suite.py is, and by tests/test_cuda.py.
"""

from __future__ import annotations

import pytest
import torch
from cases import CASES, make_params, make_state
from gpu_suite import BACKEND, DEVICE, RUNS, STEPS, exact_products, refused  # noqa: F401  (a fixture)
from parity import check_case, run

from ncafast import Alive, Rule, native
from ncafast.backends import cuda as backend
from ncafast.backends.call import rule_numbers, three_axes
from ncafast.backends.precision import use_precision
from ncafast.rule import PADDINGS

FIXED = ("perceive.weight", "extra")
NAMES = [name for name in RUNS if CASES[name][0].norm != "batch"]

# Several tiles along an axis, the last ones cut by the grid.
for _padding in PADDINGS:
    CASES[f"tiles {_padding}"] = (
        Rule(channels=6, hidden=(20,), num_filters=3, activation="tanh", padding=_padding),
        (9, 20),
    )
    CASES[f"tiles 3d {_padding}"] = (
        Rule(channels=4, ndim=3, hidden=(6,), num_filters=1, padding=_padding),
        (9, 5, 4),
    )
CASES["tiles k7"] = (Rule(channels=4, hidden=(6,), num_filters=1, kernel_size=7, padding="circular"), (9, 20))
CASES["tiles, alive"] = (Rule(channels=8, hidden=(33,), alive=Alive(threshold=0.5), restore=(1, 3)), (9, 20))
TILES = [name for name in CASES if name.startswith("tiles")]


@pytest.fixture
def on_chip(monkeypatch):
    """Of every backward so far: whether dL/dy stayed on the chip."""
    found, module = [], native.load_cuda()

    class Recorded:
        def __getattr__(self, name):
            return getattr(module, name)

        def backward(self, *arguments):
            found.append(module.backward(*arguments))

    monkeypatch.setattr(backend, "_module", Recorded)
    return found


@pytest.mark.parametrize("name", [*NAMES, *TILES])
def test_it_stays_on_chip_where_filters_and_extra_are_fixed(name, on_chip):
    check_case(BACKEND, name, STEPS.get(name, 2), DEVICE, small=3e-6, fixed=FIXED)
    assert on_chip == [True]


@pytest.mark.parametrize("name", TILES)
def test_it_goes_to_memory_where_filters_learn(name, on_chip):
    check_case(BACKEND, name, 2, DEVICE, small=3e-6)
    assert on_chip == [False]


@pytest.mark.parametrize(
    ("name", "fixed"), [("extra", FIXED[:1]), ("extra", FIXED[1:]), ("batch norm", FIXED), ("identity only", ())]
)
def test_it_goes_to_memory_where_anything_else_wants_it(name, fixed, on_chip):
    check_case(BACKEND, name, 2, DEVICE, small=3e-6, fixed=fixed)
    assert on_chip == [name == "identity only"]


@pytest.mark.parametrize(
    ("rule", "batch", "size", "stays"),
    [
        (Rule(), 8, (72, 72), True),
        (Rule(12, num_filters=4, hidden=96, identity=False), 8, (128, 128), True),
        (Rule(num_filters=1, hidden=64, kernel_size=7), 16, (320, 320), True),
        (Rule(ndim=3, num_filters=1, hidden=64), 1, (16, 16, 16), True),  # small: a launch less counts for more
        (Rule(ndim=3, num_filters=1, hidden=64, kernel_size=5), 1, (96, 96, 96), False),  # too much at the borders
        (Rule(channels=28, ndim=3, num_filters=1, hidden=6, kernel_size=7), 1, (4, 8, 8), False),  # too little room
    ],
)
def test_it_goes_to_memory_where_tiles_have_too_much_around_them(rule, batch, size, stays):
    if refused(rule, size):
        pytest.skip("two kernels do not take it either")
    made = native.load_cuda().launches(rule_numbers(rule), batch, three_axes(size), True, 132)
    assert ("to_sources" not in [kernel for kernel, *_ in made]) == stays


@pytest.mark.parametrize(("precision", "small"), [("tf32x3", 1e-5), ("tf32", 2e-2), ("bf16", 1e-1)])
@pytest.mark.parametrize("name", ["tiles circular", "chunks"])
def test_other_precisions(name, precision, small, on_chip):
    with use_precision(precision):
        check_case(BACKEND, name, 2, DEVICE, small=small, fixed=FIXED)
    assert on_chip == [True]


@pytest.mark.parametrize("memory", [2, "sqrt"])
def test_states_that_are_computed_again(memory, on_chip):
    check_case(BACKEND, "tiles, alive", 5, DEVICE, small=3e-6, fixed=FIXED, memory=memory, states=2)
    assert on_chip == [True]


def test_two_runs_give_the_same_bits(on_chip):
    rule, size = CASES["tiles reflect"]
    weight = torch.randn(3, 2, rule.channels, *size)
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    first, again = (run(BACKEND, rule, x, params, None, None, weight, device=DEVICE, seed=1, fixed=FIXED) for _ in "12")
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert on_chip == [True, True]
