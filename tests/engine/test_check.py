"""Bad input is refused before any memory is read, by a line that names the argument, its value and what is allowed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from ncafast import Rule, fire_mask, rollout

RULE = Rule(channels=4, hidden=6, extra=2)
X = torch.zeros(2, 4, 5, 6)
EXTRA = torch.zeros(1, 2, 1, 1)


def params(rule=RULE):
    return {name: torch.zeros(shape) for name, shape in rule.param_shapes().items()}


def run(x=X, rule=RULE, weights=None, steps=3, extra=EXTRA, **options):
    return rollout(x, rule, params(rule) if weights is None else weights, steps, extra=extra, **options)


def test_the_good_call_is_good():
    assert run().shape == X.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"x": torch.zeros(2, 4, 5)},
            "x has shape [2, 4, 5], but a 2-D rule needs 4 axes [B, C, H, W]",
        ),
        (
            {"x": torch.zeros(2, 5, 6, 4)},
            "x has 5 channels (shape [2, 5, 6, 4]), but the rule has 4; the channels are axis 1",
        ),
        ({"x": torch.zeros(2, 3, 5, 6)}, "x has 3 channels"),
        ({"x": torch.zeros(2, 4, 0, 6)}, "empty spatial axis"),
        ({"x": torch.zeros(1).expand(2**29, 4, 2**29, 2)}, "more than 2**63 elements"),
        ({"steps": -1}, "steps=-1 is not allowed: it must be >= 0"),
        ({"first_step": 2**32}, "must not exceed 2**32"),
        ({"first_sample": 2**32 - 1}, "first_sample + batch = 4294967297 must not exceed 2**32"),
        ({"weights": {}}, "params: missing perceive.weight, hidden.weight"),
        (
            {"weights": params() | {"bias": X}},
            "params: unknown bias. This rule takes perceive.weight",
        ),
        (
            {"weights": params() | {"hidden.bias": torch.zeros(7)}},
            "params['hidden.bias'] has shape [7], the rule needs [6]",
        ),
        (
            {"weights": params() | {"hidden.bias": torch.zeros(6, device="meta")}},
            "is on meta, but x is on cpu",
        ),
        (
            {"fire_mask": torch.ones(2, 1, 5, 6)},
            "fire_mask has shape [2, 1, 5, 6]; allowed is [steps=3, B=2 or 1, 1, 5, 6]",
        ),
        ({"fire_mask": torch.ones(3, 2, 4, 5, 6)}, "fire_mask has shape [3, 2, 4, 5, 6]"),
        ({"fire_mask": torch.ones(4, 2, 1, 5, 6)}, "allowed is [steps=3"),
        ({"extra": None}, "the rule has extra=2 channels, so extra= must be given"),
        (
            {"extra": torch.zeros(1, 3, 1, 1)},
            "extra has shape [1, 3, 1, 1]; allowed is [B=2 or 1, E=2, 5 or 1, 6 or 1]",
        ),
        ({"extra": torch.zeros(2, 1, 2, 1, 1)}, "extra has shape [2, 1, 2, 1, 1]"),
        ({"rule": Rule(channels=4, hidden=6)}, "the rule has no extra channels (Rule.extra=0)"),
        ({"seed": -1}, "seed=-1 is not allowed: it must be 0 to 2**64 - 1"),
        ({"seed": 2**64}, "is not allowed"),
        ({"seed": 10**5000}, "seed=(an int of 16610 bits) is not allowed"),
        ({"weights": params() | {3: X}}, "params: unknown 3. This rule takes perceive.weight"),
        ({"states": 1.5}, "states=1.5 is not allowed: choose None, 'all' or an int >= 1"),
        ({"memory": np.array([1, 2])}, "memory=array([1, 2]) is not allowed: choose 'states'"),
        ({"memory": "all"}, "memory='all' is not allowed: choose 'states', 'sqrt' or an int >= 1"),
        ({"memory": 0}, "memory=0 is not allowed"),
        ({"states": "some"}, "states='some' is not allowed: choose None, 'all' or an int >= 1"),
        ({"states": 0}, "states=0 is not allowed"),
        ({"backend": "gpu"}, "backend='gpu' is not known: choose from"),
    ],
)
def test_wrong_values(arguments, message):
    with pytest.raises(ValueError) as error:
        run(**arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": [[0.0]]}, "x must be a torch.Tensor, got list"),
        ({"x": X.int()}, "x must be floating point, got torch.int32"),
        ({"x": X.to(torch.complex64)}, "x must be floating point, got torch.complex64"),
        ({"x": X.double()}, "params['perceive.weight'] is torch.float32, but x is torch.float64"),
        ({"rule": "rule", "weights": {}}, "rule must be an ncafast.Rule, got str"),
        ({"weights": [1]}, "params must be a mapping"),
        (
            {"weights": params() | {"hidden.bias": 3}},
            "params['hidden.bias'] must be a torch.Tensor, got int",
        ),
        ({"steps": 2.0}, "steps must be an int, got float 2.0"),
        ({"steps": True}, "steps must be an int, got bool"),
        ({"steps": np.bool_(True)}, "steps must be an int, got bool"),
        ({"first_step": np.float64(1)}, "first_step must be an int, got float64"),
        ({"x": X.to("meta")}, "x is on the meta device, which holds no numbers"),
        ({"x": X.to_sparse()}, "x must be a dense tensor, got a sparse_coo one"),
        ({"x": X.to_mkldnn()}, "x must be a dense tensor, got a mkldnn one"),
        (
            {"x": X.to(torch.float8_e4m3fn)},
            "x must be float16, bfloat16, float32 or float64, got torch.float8_e4m3fn",
        ),
        (
            {"weights": params() | {"hidden.weight": torch.zeros(6, 14).to_sparse()}},
            "params['hidden.weight'] must be a dense tensor, got a sparse_coo one",
        ),
        ({"fire_mask": torch.ones(3, 1, 1, 5, 6).to_sparse()}, "fire_mask must be a dense tensor"),
        ({"seed": torch.zeros(1, dtype=torch.int64, device="meta")}, "seed is on the meta device"),
        ({"seed": np.array([3, 4])}, "seed must be an int or an int64 tensor of one element, got ndarray"),
        ({"fire_mask": 1}, "fire_mask must be a torch.Tensor, got int"),
        ({"extra": EXTRA.double()}, "extra is torch.float64, but x is torch.float32"),
        ({"seed": 1.5}, "seed must be an int or an int64 tensor"),
        (
            {"seed": torch.zeros(2, dtype=torch.int64)},
            "seed must be an int or an int64 tensor of one element",
        ),
    ],
)
def test_wrong_kinds(arguments, message):
    with pytest.raises(TypeError) as error:
        run(**arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("padding", "kernel", "size", "fits"),
    [
        ("reflect", 7, (4, 4), True),
        ("reflect", 7, (3, 4), False),
        ("reflect", 3, (1, 4), False),
        ("circular", 7, (3, 3), True),
        ("circular", 7, (4, 2), False),
        ("zeros", 7, (1, 1), True),
        ("replicate", 7, (1, 1), True),
    ],
)
def test_padding_wider_than_the_grid(padding, kernel, size, fits):
    rule = Rule(channels=4, hidden=6, padding=padding, kernel_size=kernel)
    x = torch.zeros(1, 4, *size)
    if fits:
        assert run(x=x, rule=rule, extra=None).shape == x.shape
    else:
        with pytest.raises(ValueError, match="cells past the edge"):
            run(x=x, rule=rule, extra=None)


def test_nested_tensors_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that they are a prototype
        nested = torch.nested.nested_tensor([X[0], X[1]])
    with pytest.raises(TypeError, match="x must be a dense tensor, got a nested one"):
        run(x=nested)


def test_autocast_mixes_no_float64():
    """torch's own layers refuse the same under autocast, which leaves float64 as it is."""
    weights = {name: p.double() for name, p in params().items()}
    with torch.autocast("cpu"):
        with pytest.raises(TypeError, match=r"params\['perceive.weight'\] is torch.float32, but x is torch.float64"):
            run(x=X.double())
        with pytest.raises(TypeError, match=r"params\['perceive.weight'\] is torch.float64, but x is torch.float32"):
            run(weights=weights)
        assert run(x=X.double(), weights=weights, extra=EXTRA.double()).dtype == torch.float64
        assert run(x=X.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("whole", [np.int64, np.uint8, torch.tensor])
def test_whole_numbers_of_other_libraries_are_ints(whole):
    x, weights = torch.randn(X.shape), {name: torch.randn(p.shape) for name, p in params().items()}
    plain = {"steps": 4, "seed": 7, "first_step": 5, "first_sample": 3, "states": 2, "memory": 3}
    want, want_states = run(x=x, weights=weights, **plain)
    got, got_states = run(x=x, weights=weights, **{name: whole(value) for name, value in plain.items()})
    assert torch.equal(got, want) and torch.equal(got_states, want_states)
    assert not torch.equal(want, run(x=x, weights=weights, **plain | {"seed": 8})[0])


def test_a_seed_of_numpy_may_use_all_64_bits():
    x, weights = torch.randn(X.shape), {name: torch.randn(p.shape) for name, p in params().items()}
    want = run(x=x, weights=weights, seed=2**64 - 5)
    assert torch.equal(run(x=x, weights=weights, seed=np.uint64(2**64 - 5)), want)


@pytest.mark.parametrize("states", [None, 2, 2**70])
@pytest.mark.parametrize("memory", [5, 9, 2**70])
def test_periods_longer_than_the_rollout(states, memory):
    """No state is due, and backward computes all of them again: the numbers stay the same."""
    x, found = torch.randn(X.shape, requires_grad=True), []
    weights = {name: torch.randn(p.shape) / 4 for name, p in params().items()}
    for keep in ("states", memory):
        result = run(x=x, weights=weights, steps=5, seed=1, states=states, memory=keep)
        out, kept = (result, None) if states is None else result
        loss = out.square().sum() if kept is None else out.square().sum() + kept.sum()
        found.append((out, torch.autograd.grad(loss, x)[0]))
        assert kept is None or kept.shape == (2 if states == 2 else 0, *x.shape)
    for want, got in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_fire_mask_checks():
    with pytest.raises(ValueError, match="must be that of a state"):
        fire_mask((2, 4), 0.5, 0)
    with pytest.raises(ValueError, match="fire_rate=2.0 is not allowed"):
        fire_mask((2, 4, 5), 2, 0)
    with pytest.raises(ValueError, match="step=-1 is not allowed"):
        fire_mask((2, 4, 5), 0.5, 0, step=-1)
    with pytest.raises(ValueError, match="32"):
        fire_mask((2, 4, 5), 0.5, 0, step=2**32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shape": (2, 4, -1)}, ValueError, "shape[2]=-1 is not allowed: it must be >= 0"),
        ({"shape": (2, 4, 1.5)}, TypeError, "shape[2] must be an int, got float 1.5"),
        ({"shape": 5}, TypeError, "shape must be that of a state, [B, C, *S], got int 5"),
        ({"shape": "abc"}, TypeError, "shape must be that of a state, [B, C, *S], got str 'abc'"),
        ({"first_sample": 1.5}, TypeError, "first_sample must be an int, got float 1.5"),
        ({"first_sample": "a"}, TypeError, "first_sample must be an int, got str 'a'"),
        ({"first_sample": None}, TypeError, "first_sample must be an int, got NoneType None"),
        ({"first_sample": -1}, ValueError, "first_sample=-1 is not allowed: it must be >= 0"),
        ({"device": "foo"}, ValueError, "device='foo' is not a device"),
    ],
)
def test_wrong_arguments_of_fire_mask_are_named(arguments, error, message):
    with pytest.raises(error) as raised:
        fire_mask(**{"shape": (2, 4, 5), "fire_rate": 0.5, "seed": 0} | arguments)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_fire_mask_takes_whole_numbers_of_numpy():
    want = fire_mask((2, 4, 5, 7), 0.5, 9, step=3, first_sample=1)
    sizes = np.array([2, 4, 5, 7])
    assert torch.equal(fire_mask(sizes, 0.5, np.int64(9), step=np.int32(3), first_sample=np.uint8(1)), want)
