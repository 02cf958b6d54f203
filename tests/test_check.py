"""Bad input is refused before any memory is read, by a line that names the argument, its value and what is allowed."""

from __future__ import annotations

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


def test_fire_mask_checks():
    with pytest.raises(ValueError, match="must be that of a state"):
        fire_mask((2, 4), 0.5, 0)
    with pytest.raises(ValueError, match="fire_rate=2.0 is not allowed"):
        fire_mask((2, 4, 5), 2, 0)
    with pytest.raises(ValueError, match="step=-1 is not allowed"):
        fire_mask((2, 4, 5), 0.5, 0, step=-1)
    with pytest.raises(ValueError, match="32"):
        fire_mask((2, 4, 5), 0.5, 0, step=2**32)
