"""The CUDA backend's two ways backward: which one is taken, and that both are right.

Where nothing but the states' gradient wants dL/dy of the perception it stays on the chip, see csrc/cuda/pushed.cuh.
Under batch norm what the statistics add to it does in any case, see csrc/cuda/batch_norm_backward.cuh. Run as
tests/backends/gpu_suite.py is, and by tests/backends/test_cuda.py.
"""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch
from cases import CASES, make_params, make_state
from gpu_suite import BACKEND, DEVICE, RUNS, STEPS, exact_products, refused  # noqa: F401  (a fixture)
from parity import check_case, run

from ncafast import Alive, Rule, native, rollout
from ncafast.backends import cuda as backend
from ncafast.backends.native_call import rule_numbers, three_axes
from ncafast.backends.precision import use_precision
from ncafast.rule import PADDINGS

FIXED = ("perceive.weight", "extra")
# Layered rules have kernels of their own, see cuda_layers_suite.py.
NAMES = [
    name
    for name in RUNS
    if CASES[name][0].norm != "batch" and CASES[name][0].perception != "dense" and len(CASES[name][0].hidden) == 1
]

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
# Planes of 3 x 3 taps of 16 channels are unrolled.
CASES["tiles, unrolled"] = (Rule(channels=16, hidden=(40,), num_filters=3, filter_bias=True), (9, 20))
CASES["tiles 3d, unrolled"] = (Rule(channels=16, ndim=3, hidden=(20,), num_filters=2, padding="reflect"), (9, 5, 4))
TILES = [name for name in CASES if name.startswith("tiles")]

# The same under batch norm.
for _padding in PADDINGS:
    for _name in (f"tiles {_padding}", f"tiles 3d {_padding}"):
        CASES[f"norm {_name}"] = (dataclasses.replace(CASES[_name][0], norm="batch"), CASES[_name][1])
CASES["norm tiles k7"] = (
    Rule(channels=4, hidden=(40,), num_filters=1, kernel_size=7, norm="batch", filter_bias=True, padding="reflect"),
    (9, 20),
)
CASES["norm tiles, alive"] = (
    Rule(channels=8, hidden=(33,), norm="batch", alive=Alive(threshold=0.5), restore=(1, 3)),
    (9, 20),
)
CASES["norm tiles, unrolled"] = (Rule(channels=16, norm="batch", filter_bias=True, padding="reflect"), (9, 20))
CASES["norm tiles, extra"] = (Rule(channels=5, hidden=(12,), norm="batch", extra=3, identity=False), (11, 13))
CASES["norm tiles, wide"] = (Rule(channels=20, hidden=(24,), num_filters=4, norm="batch", update_bias=True), (9, 13))
CASES["norm tiles, 1d"] = (
    Rule(channels=3, ndim=1, hidden=(5,), num_filters=2, kernel_size=5, norm="batch", padding="replicate"),
    (277,),
)
NORMS = [name for name in CASES if name.startswith("norm tiles")]
CASES["norm groups"] = (Rule(channels=6, hidden=(20,), norm="batch", padding="reflect"), (19, 41))
CASES["norm groups 3d"] = (
    Rule(channels=4, ndim=3, hidden=(6,), num_filters=1, norm="batch", padding="circular"),
    (13, 9, 7),
)
# A tile with all around it twice, as states and as what is pushed, is more than a block has.
CASES["norm, no room"] = (
    Rule(channels=28, ndim=3, num_filters=1, hidden=6, kernel_size=7, norm="batch"),
    (2, 4, 5),
)


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


@pytest.mark.parametrize(("name", "fixed"), [("extra", FIXED[:1]), ("extra", FIXED[1:]), ("identity only", ())])
def test_it_goes_to_memory_where_anything_else_wants_it(name, fixed, on_chip):
    check_case(BACKEND, name, 2, DEVICE, small=3e-6, fixed=fixed)
    assert on_chip == [name == "identity only"]


@pytest.mark.parametrize("fixed", [FIXED, ()], ids=["fixed", "learnt"])
@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_stays_on_chip_whatever_learns(name, fixed, on_chip):
    check_case(BACKEND, name, 3, DEVICE, small=3e-6, fixed=fixed)
    assert on_chip == [True]


@pytest.mark.parametrize("fixed", [FIXED, ()], ids=["fixed", "learnt"])
def test_batch_norm_goes_to_memory_where_there_is_too_little_room(fixed, on_chip):
    if refused(*CASES["norm, no room"]):
        pytest.skip("this GPU has too little room for any way")
    check_case(BACKEND, "norm, no room", 2, DEVICE, small=3e-6, fixed=fixed)
    assert on_chip == [False]


@pytest.mark.parametrize("name", ["norm groups", "norm groups 3d"])
def test_batch_norm_where_blocks_add_up_in_groups(name, monkeypatch):
    """More blocks than tree_width, see csrc/cuda/tree.h; and twice the same bits."""
    monkeypatch.setattr(backend, "_SHIM_MULTIPROCESSORS", 20)
    check_case(BACKEND, name, 3, DEVICE, small=3e-6)
    rule, size = CASES[name]
    weight = torch.randn(2, 2, rule.channels, *size)
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    first, again = (run(BACKEND, rule, x, params, None, None, weight, device=DEVICE, seed=1) for _ in "12")
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.skipif("NCAFAST_CUDA_SHIM" not in os.environ, reason="launches are counted by the shim")
@pytest.mark.parametrize(
    ("name", "fixed", "forward", "backward"),
    [
        ("norm tiles reflect", FIXED, 2, 2),
        ("norm tiles reflect", (), 2, 2),
        ("norm tiles, extra", (), 2, 2),
        ("tiles reflect", FIXED, 1, 1),
        ("tiles reflect", (), 1, 3),
    ],
)
def test_launches_of_a_step(name, fixed, forward, backward, tmp_path, monkeypatch):
    monkeypatch.setenv("NCAFAST_CUDA_ROLLOUT", "steps")
    rule, size = CASES[name]
    params = {key: p.to(DEVICE) for key, p in make_params(rule, torch.float32).items()}
    counts = {}
    for steps in (3, 4):
        x = make_state(rule, size, torch.float32).to(DEVICE).requires_grad_()
        extra = torch.randn(1, rule.extra, *size, device=DEVICE, requires_grad=True) if rule.extra else None
        learnt = {key: p.detach().requires_grad_(key not in fixed) for key, p in params.items()}
        for what in ("forward", "backward"):
            log = tmp_path / f"{what} {steps}"
            monkeypatch.setenv("NCAFAST_SHIM_LAUNCHES", str(log))
            if what == "forward":
                out = rollout(x, rule, learnt, steps, extra=extra, seed=1, backend=BACKEND)
            else:
                out.sum().backward()
            counts[what, steps] = len(log.read_bytes())
    assert counts["forward", 4] - counts["forward", 3] == forward
    assert counts["backward", 4] - counts["backward", 3] == backward


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
    assert ("perception_backward" not in [kernel for kernel, *_ in made]) == stays


@pytest.mark.parametrize(("precision", "small"), [("tf32x3", 1e-5), ("tf32", 2e-2), ("bf16", 1e-1)])
@pytest.mark.parametrize(
    "name", ["tiles circular", "chunks", "norm tiles reflect", "norm tiles 3d zeros", "norm tiles, unrolled"]
)
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
