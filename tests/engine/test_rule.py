"""Rule: validation that names the value, JSON both ways, shapes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from cases import CASES

from ncafast import Alive, Rule


@pytest.mark.parametrize("name", CASES)
def test_json_round_trip(name):
    rule = CASES[name][0]
    again = Rule.from_json(rule.to_json())
    assert again == rule and hash(again) == hash(rule)
    assert again.to_json() == rule.to_json()
    assert json.loads(rule.to_json())["channels"] == rule.channels


def test_equal_rules_give_equal_text():
    assert Rule(kernel_size=3, hidden=64).to_json() == Rule(kernel_size=(3, 3), hidden=(64,)).to_json()


def test_shapes_of_maxnca():
    rule = Rule(channels=16, hidden=128, num_filters=2, filter_bias=True, norm="batch", mutable=(3, 16))
    assert rule.param_shapes() == {
        "perceive.weight": (2, 16, 3, 3),
        "perceive.bias": (2, 16),
        "hidden.weight": (128, 48),
        "hidden.bias": (128,),
        "norm.weight": (128,),
        "norm.bias": (128,),
        "update.weight": (13, 128),
    }


def test_shapes_of_two_layers_dense_and_running():
    rule = Rule(
        channels=4, ndim=1, perception="dense", dense_channels=5, kernel_size=5, extra=2, filter_bias=True,
        hidden=(6, 7), norm="running", update_bias=True,
    )  # fmt: skip
    assert rule.param_shapes() == {
        "perceive.weight": (5, 4, 5),
        "perceive.bias": (5,),
        "hidden.weight": (6, 4 + 5 + 2),
        "hidden.bias": (6,),
        "norm.weight": (6,),
        "norm.bias": (6,),
        "norm.running_mean": (6,),
        "norm.running_var": (6,),
        "hidden2.weight": (7, 6),
        "hidden2.bias": (7,),
        "norm2.weight": (7,),
        "norm2.bias": (7,),
        "norm2.running_mean": (7,),
        "norm2.running_var": (7,),
        "update.weight": (4, 7),
        "update.bias": (4,),
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": 0}, "channels=0 is not allowed: it must be >= 1"),
        ({"ndim": 4}, "ndim=4 is not allowed: it must be 1 to 3"),
        ({"kernel_size": 4}, "kernel_size=4 is even"),
        ({"kernel_size": 9}, "kernel_size=9 is not allowed: it must be 1 to 7"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size=(3, 3, 3) must be one int or 2 ints"),
        ({"padding": "same"}, "padding='same' is not allowed: choose one of zeros, reflect"),
        ({"norm": "bach"}, "norm='bach' is not allowed"),
        ({"activation": "swish"}, "activation='swish' is not allowed"),
        ({"fire_rate": 1.5}, "fire_rate=1.5 is not allowed: it must be 0 to 1"),
        ({"fire_rate": float("nan")}, "fire_rate=nan is not allowed"),
        ({"fire_rate": 10**400}, "fire_rate=(an int of 1329 bits) is not allowed: it must be 0 to 1"),
        ({"channels": 2**70}, "channels=1180591620717411303424 is not allowed: it must be below 2**31"),
        ({"padding": np.array(["zeros"])}, "choose one of zeros, reflect"),
        ({"step_size": float("inf")}, "step_size=inf is not allowed: it must be finite"),
        ({"hidden": ()}, "at least one hidden layer"),
        ({"mutable": (3, 3)}, "mutable=(3, 3) must satisfy"),
        ({"mutable": (0, 17)}, "mutable=(0, 17) must satisfy 0 <= first < end <= channels=16"),
        ({"identity": False, "num_filters": 0}, "the perception is empty"),
        ({"perception": "dense"}, "needs dense_channels >= 1"),
        ({"norm": "group", "norm_groups": 3}, "norm_groups=3 must divide"),
        ({"alive": Alive(channel=16)}, "alive.channel=16 must be below channels=16"),
        ({"clamp": (1, -1)}, "clamp=(1.0, -1.0) must satisfy lo <= hi"),
        ({"clamp": (None, None)}, "clamp=(None, None) must satisfy"),
        ({"clamp": (0, float("inf"))}, "clamp=inf is not allowed: it must be finite"),
        ({"update_activation": "swish"}, "update_activation='swish' is not allowed"),
        ({"hidden_dropout": 1}, "hidden_dropout=1.0 leaves nothing to update with"),
        ({"hidden_dropout": -0.1}, "hidden_dropout=-0.1 is not allowed: it must be 0 to 1"),
        ({"fire_rate": 0, "fire_rescale": True}, "divides by fire_rate"),
    ],
)
def test_wrong_values_are_named(fields, message):
    with pytest.raises(ValueError) as error:
        Rule(**fields)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": "16"}, "channels must be an int, got str '16'"),
        ({"channels": True}, "channels must be an int, got bool"),
        ({"hidden": 12.0}, "hidden must be an int, got float"),
        ({"identity": 1}, "identity must be True or False, got int 1"),
        ({"fire_rate": "half"}, "fire_rate must be a number, got str"),
        ({"fire_rate": torch.tensor([0.5, 0.5])}, "fire_rate must be a number, got Tensor tensor([0.5000, 0.5000])"),
        ({"hidden": torch.tensor([3, 4])}, "hidden must be an int, got Tensor tensor([3, 4])"),
        ({"step_size": torch.zeros(9, 9)}, "step_size must be a number, got Tensor tensor([[0., 0., 0."),
        ({"mutable": 3}, "mutable must be (first, end)"),
        ({"clamp": 8}, "clamp must be (lo, hi) or None, got 8"),
        ({"alive": 0.1}, "got float; NCA also takes (channel, threshold)"),
        ({"alive": (3, 0.1)}, "alive must be an Alive or None, got tuple; NCA also takes"),
    ],
)
def test_wrong_kinds_are_named(fields, message):
    with pytest.raises(TypeError) as error:
        Rule(**fields)
    assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 200


def test_whole_numbers_of_other_libraries_are_ints():
    rule = Rule(channels=np.int64(8), hidden=(np.int32(5), torch.tensor(6)), fire_rate=np.float32(0.25))
    assert rule == Rule(channels=8, hidden=(5, 6), fire_rate=0.25)
    assert type(rule.channels) is type(rule.hidden[1]) is int and type(rule.fire_rate) is float


def test_alive_checks_itself():
    with pytest.raises(ValueError, match="both off"):
        Alive(pre=False, post=False)
    with pytest.raises(ValueError, match="alive.pool=4 is even"):
        Alive(pool=4)
    with pytest.raises(ValueError, match="alive.pool=1180591620717411303425 is not allowed: it must be 1 to 63"):
        Alive(3, 0.1, 2**70 + 1)
    assert Alive(pool=63).pool == 63
    with pytest.raises(ValueError, match="alive.gates='cells' is not allowed: choose one of state, update"):
        Alive(gates="cells")
    with pytest.raises(ValueError, match="set post=False"):
        Alive(gates="update")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "a rule must be JSON text"),
        ("[1]", "a rule must be a JSON object, got list"),
        ('{"chanels": 4}', "unknown rule field chanels"),
        ('{"channels": "a"}', "this is not a rule: channels must be an int"),
        ('{"alive": {"chanel": 1}}', "this is not a rule"),
        ('{"fire_rate": 2}', "fire_rate=2.0 is not allowed"),
    ],
)
def test_bad_json_is_one_clear_line(text, message):
    with pytest.raises(ValueError) as error:
        Rule.from_json(text)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_replace_names_unknown_fields():
    with pytest.raises(TypeError, match="unknown rule field chanels; known are channels"):
        Rule().replace(chanels=3)


def test_for_eval():
    rule = Rule(fire_rate=0.5, fire_rescale=True, fire_in_eval=False)
    assert rule.for_eval() == Rule(fire_rate=1.0, fire_in_eval=False)
    assert Rule().for_eval() == Rule()
    assert Rule(hidden_dropout=0.3).for_eval() == Rule()
    assert rule.replace(hidden_dropout=0.3).for_eval() == rule.for_eval()
