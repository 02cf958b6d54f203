"""What a rule chooses between, in every backend: a kind without its case does not compile, nor runs as another.

The order of the enums in csrc/rollout.h is that of the names in Python; planted values show that every switch misses
them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from cuda_shim.build import compiler, shim_flags

from ncafast import Rule, native, rollout, rule
from ncafast.backends import cuda, fusable, native_call, precision, reference

ROOT = Path(__file__).resolve().parents[2]
needs_native = pytest.mark.skipif(native.load() is None, reason="the C++ extension was not built")
needs_gcc = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(compiler()) is None, reason="the sources are read by GCC on Linux"
)

# Switches over the enum, by header and source, of what is compiled. csrc/kinds.h is part of all.
SWITCHES = {
    ("Padding", "cpu/grid.cpp"): {"kinds.h": 1, "grid.cpp": 1},
    ("Padding", "cuda/backward.cu"): {"kinds.h": 1, "tile.cuh": 1},
    ("Activation", "cpu/portable.cpp"): {"kinds.h": 1, "activation.h": 4},
    ("Activation", "cuda/shape.cu"): {"kinds.h": 1, "shape.cu": 1},
    ("Activation", "cuda/backward.cu"): {"kinds.h": 1, "activation.cuh": 2},
    ("Norm", "cpu/engine.cpp"): {"kinds.h": 5},
    ("Precision", "cuda/rollout.cu"): {"kinds.h": 1, "launches.h": 1, "moments.cuh": 1, "prepare.cuh": 1, "ways.h": 1},
    ("Way", "cuda/rollout.cu"): {"kinds.h": 1, "rollout.cu": 2},
    ("StateType", "cuda/layers.cu"): {"kinds.h": 1, "launches.h": 1, "stored.cuh": 1},
}


def compiled(source: Path) -> subprocess.CompletedProcess[str]:
    """GCC's words on a source, .cu as C++ for the CPU."""
    flags = ["-std=c++17", "-fopenmp", "-Werror=switch", "-Werror=switch-enum"]
    if source.suffix == ".cu":
        flags = [flag for flag in shim_flags() if not flag.startswith("-I")]
    place = next(folder for folder in source.parents if folder.name == "csrc")
    command = [compiler(), *flags, f"-I{place}", "-fsyntax-only", str(source)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})


@needs_gcc
@pytest.mark.parametrize(("enum", "name"), SWITCHES, ids=lambda word: word.replace("/", "-"))
def test_a_new_kind_does_not_compile_without_its_cases(tmp_path, enum, name):
    csrc = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", csrc)
    header = csrc / "rollout.h"
    text, count = re.subn(rf"(enum class {enum} : int32_t {{)", r"\1 planted, ", header.read_text())
    assert count == 1
    header.write_text(text)
    done = compiled(csrc / name)
    assert done.returncode != 0
    missed = set(re.findall(r"([\w.]+):(\d+):\d+: error: enumeration value 'planted' not handled", done.stderr))
    assert Counter(file for file, _ in missed) == SWITCHES[enum, name], done.stderr


@needs_gcc
def test_a_default_is_no_case(tmp_path):
    """What CI compiles with refuses one that stands for a value that has a name."""
    csrc = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", csrc)
    source = csrc / "cpu" / "grid.cpp"
    assert compiled(source).returncode == 0
    source.write_text(source.read_text().replace("case Padding::circular:", "default:"))
    assert "enumeration value 'circular' not handled in switch [-Werror=switch-enum]" in compiled(source).stderr


@needs_native
def test_the_numbers_of_kinds_are_the_same_in_python_and_cpp():
    enums = native.load().enums()
    assert enums["Padding"] == fusable.PADDINGS == rule.PADDINGS
    assert enums["Activation"] == fusable.ACTIVATIONS == rule.ACTIVATIONS
    assert enums["Norm"] == fusable.NORMS == rule.NORMS
    assert enums["StateType"] == tuple(str(dtype).removeprefix("torch.") for dtype in native_call.STATES)
    assert enums["Precision"] == precision.PRECISIONS
    assert enums["Way"] == (*cuda.LAUNCH_STRATEGIES, "quickest")


@needs_native
@pytest.mark.parametrize("name", ["padding", "activation", "dense_activation", "norm"])
@pytest.mark.parametrize("number", [-1, 99])
def test_a_number_without_a_name_is_refused_before_any_pointer_is_taken(name, number):
    numbers = native_call.rule_numbers(Rule()) | {name: number}
    with pytest.raises(ValueError, match=rf"^{name}={number} is not known to these kernels: 0 is \w+, 1 is"):
        native.load().forward({"rule": numbers}, 0, 0, 0, 0)


@pytest.mark.parametrize("name", list(fusable.FUSED))
def test_a_kind_that_only_the_rule_knows_is_not_fused(name):
    planted = Rule()
    object.__setattr__(planted, name, "planted")
    assert fusable.can_fuse(planted).startswith(f"{name}='planted' is not fused, only ")


@pytest.mark.parametrize("name", ["perception", "padding", "activation", "norm"])
def test_a_kind_without_an_implementation_is_no_other_in_the_reference_backend(name):
    planted = Rule(4, hidden=3)
    shapes = planted.param_shapes()
    object.__setattr__(planted, name, "planted")
    params = {key: torch.ones(shape) for key, shape in shapes.items()}
    with pytest.raises((ValueError, KeyError, NotImplementedError), match="planted"):
        reference.step(planted, torch.ones(1, 4, 3, 3), params, None, None, None)


TORCH = {
    "relu": F.relu,
    "leaky_relu": lambda z: F.leaky_relu(z, 0.2),
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "identity": lambda z: z,
}


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_native)])
@pytest.mark.parametrize("activation", rule.ACTIVATIONS)
def test_every_activation_is_that_of_torch(backend, activation):
    """One cell, no filters, one hidden unit per channel: the update is the activation and the gradient its slope."""
    one = Rule(5, num_filters=0, hidden=5, activation=activation, negative_slope=0.2, fire_rate=1.0)
    params = {"hidden.weight": torch.eye(5), "hidden.bias": torch.zeros(5), "update.weight": torch.eye(5)}
    x = torch.tensor([-3.0, -0.5, 0.3, 1.0, 4.0]).reshape(1, 5, 1, 1).requires_grad_()
    expected = x + TORCH[activation](x)
    out = rollout(x, one, params, 1, backend=backend)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-6)
    weight = torch.arange(1.0, 6.0).reshape(x.shape)
    (found,), (wanted,) = (torch.autograd.grad((y * weight).sum(), x) for y in (out, expected))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)
