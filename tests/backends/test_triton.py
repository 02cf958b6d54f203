"""The Triton backend without a GPU: its kernels in Triton's interpreter, and compiled for GPUs that are not there.

Both run in processes of their own, since the interpreter has to be switched on before Triton is imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from architectures import ARCHITECTURES, skip_unless

from ncafast import Rule, backends, info
from ncafast.backends import c_compiler
from ncafast.backends import triton as backend
from ncafast.backends.precision import precision, use_precision

SUITE = Path(__file__).with_name("triton_suite")
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")

# Bytes of stack per thread that go to memory in the pass through the MLP, where a tile holds more than the registers:
# all else, the published models on sm_80 and sm_90 among them, keeps everything in registers. With Triton 3.6; 3.8.
SPILLS = {
    ("texture 128", 80): (216, 112),
    ("texture 128", 90): (264, 0),
    ("wide", 80): (240, 128),
    ("wide", 90): (40, 0),
    ("digits", 90): (8, 8),
    ("digits", 100): (24, 24),
    ("deep", 100): (8, 8),
}


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python process on the suite, one thread each for its two parts at once."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("NCAFAST_", "TRITON_"))}
    return subprocess.run(
        [sys.executable, *words],
        env=environment | {"OMP_NUM_THREADS": "1"} | variables,
        cwd=SUITE.parents[2],
        capture_output=True,
        text=True,
    )


def triton_before(minor: int) -> bool:
    import triton

    return tuple(map(int, triton.__version__.split(".")[:2])) < (3, minor)


@needs_triton
@pytest.mark.parametrize(
    "words",
    [
        ("gpu_suite.py", "-k", "parity_with_float64"),
        ("gpu_suite.py", "-k", "not parity_with_float64"),
        ("triton_suite/kernels.py", "triton_suite/tuned.py"),
    ],
    ids=("rules", "calls", "kernels"),
)
def test_kernels_agree_with_float64(words):
    """In Triton's interpreter, which is slow: in parts, for processes that test side by side."""
    if triton_before(8) and tuple(map(int, numpy.__version__.split(".")[:2])) >= (2, 4):
        pytest.skip("Triton's interpreter before 3.8 does not run beside NumPy 2.4 and newer")
    found = run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore:Conversion of an array:DeprecationWarning",
        *(str(SUITE.parent / word) if word.endswith(".py") else word for word in words),
        TRITON_INTERPRET="1", NCAFAST_BACKEND="triton", NCAFAST_RANDOM_RULES="4",
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    assert " passed" in found.stdout.splitlines()[-1]


@pytest.fixture
def cache(tmp_path_factory) -> str:
    """Of all processes that test: no kernel is compiled twice."""
    own = tmp_path_factory.getbasetemp()
    return str((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "triton")


@needs_triton
@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_kernels_compile_without_spills(architecture, cache):
    """Every variant that the published models launch; registers suffice, and products run on tensor cores."""
    skip_unless(architecture, ARCHITECTURES)
    found = run(str(SUITE / "compiled.py"), str(architecture), "--json", TRITON_CACHE_DIR=cache)
    assert found.returncode == 0, found.stderr[-3000:]
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert {"step", "mlp_backward", "perception_backward", "sum_moments", "batch_norm_backward"} <= {
        row["kernel"] for row in rows
    }
    shared = {80: 163, 90: 227, 100: 227}[architecture] * 1024
    for row in rows:
        known = SPILLS.get((row["rule"], architecture), (0, 0)) if row["kernel"] == "mlp_backward" else (0, 0)
        assert row["stack"] <= known[not triton_before(8)], row
        assert row["shared"] <= shared, row
        assert row["registers"] * row["warps"] * 32 <= 65536, row
        if row["kernel"] in ("step", "mlp_backward", "sum_moments", "batch_norm_backward"):
            assert row["tensor"] > 0, row


@needs_triton
@pytest.mark.parametrize("words", [("maxnca", "step", "sum_moments", "perception_backward"), ("digits", "step")])
def test_every_size_that_is_tried_is_another_program(words, cache):
    found = run(str(SUITE / "candidates.py"), *words, TRITON_CACHE_DIR=cache)
    assert found.returncode == 0, found.stderr[-3000:]
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(rows) == len(words) - 1
    assert all(row["programs"] == row["tried"] > 1 for row in rows)


# Kernels, and torch's operations, of a step forward and of one backward; lists of 16 steps are made at once.
NORMED = [[4 + 1 / 16, 0], [6 + 1 / 16, 2]]
PLAIN = [[1 + 1 / 16, 0], [2 + 1 / 16, 0]]
ALIVE = [[4, 0], [3, 0]]
GROUPED = [[3 + 1 / 16, 1], [5 + 1 / 16, 0]]
LAUNCHES = {
    **dict.fromkeys(("maxnca", "med fine", "med coarse", "3d", "3d 7"), NORMED),
    **dict.fromkeys(("maxnca plain", "texture", "texture 128", "wide", "deep", "layer norm"), PLAIN),
    **dict.fromkeys(("growing", "digits"), ALIVE),
    "group norm": GROUPED,
}


@needs_triton
def test_launches_of_a_step():
    found = run(str(SUITE / "launched.py"))
    assert found.returncode == 0, found.stderr[-3000:]
    rows = map(json.loads, found.stdout.splitlines())
    assert {row["rule"]: [row["forward"], row["backward"]] for row in rows} == LAUNCHES


@needs_triton
@pytest.mark.parametrize("precision", ["ieee", "tf32x3", "bf16"])
def test_kernels_compile_in_every_precision(precision, cache):
    """Plain float32 products run on no tensor core, the others on them."""
    words = ("90", "maxnca", precision, "--json")
    found = run(str(SUITE / "compiled.py"), *words, TRITON_CACHE_DIR=cache)
    assert found.returncode == 0, found.stderr[-3000:]
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    steps = [row for row in rows if row["kernel"] in ("step", "mlp_backward")]
    assert steps
    assert all((row["tensor"] > 0) == (precision != "ieee") for row in steps)


@needs_triton
@pytest.mark.parametrize(
    ("dtype", "architecture", "rule", "stack"),  # bytes per thread that go to memory in `step`, with Triton 3.8
    [("float16", 80, "growing", 24), ("bfloat16", 90, "maxnca", 0), ("float16", 100, "texture", 0)],
)
def test_kernels_compile_for_half_precision_states(dtype, architecture, rule, stack, cache):
    """What they write of states is rounded to the nearest."""
    found = run(str(SUITE / "compiled.py"), str(architecture), rule, dtype, "--json", TRITON_CACHE_DIR=cache)
    assert found.returncode == 0, found.stderr[-3000:]
    rows = {row["kernel"]: row for row in map(json.loads, found.stdout.splitlines())}
    assert all(row["stack"] <= (stack if name == "step" else 0) for name, row in rows.items()), rows
    assert rows["step"]["narrowed"] > 0 and rows["perception_backward"]["narrowed"] > 0
    assert rows["step"]["tensor"] > 0 and rows["mlp_backward"]["tensor"] > 0


@needs_triton
@pytest.mark.parametrize("mode", ["interpreted", "compiled"])
def test_a_kind_that_no_kernel_has_is_an_error(mode, tmp_path):
    """And not the identity, or zero padding."""
    interpreter = {"TRITON_INTERPRET": "1", "NCAFAST_BACKEND": "triton"} if mode == "interpreted" else {}
    found = run(str(SUITE / "kinds.py"), TRITON_CACHE_DIR=str(tmp_path), **interpreter)
    assert found.returncode == 0, found.stderr[-3000:]
    said = dict(map(json.loads, found.stdout.splitlines()))
    assert said.pop(None) == ""
    reasons = {"ACT": "activation=planted", "SLOPE_OF": "activation=planted", "PADDING": "padding=planted"}
    assert said.keys() == {*reasons, "PRECISION"}
    for name, reason in reasons.items():
        assert f"no kernel has {reason}" in said[name]
    assert "input_precision must be one of" in said["PRECISION"]


def test_info_says_that_nobody_has_measured_it(capsys):
    assert info.main([]) == 0
    assert backend.UNVERIFIED is not None  # until bench/results holds rows from a GPU
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("triton ")][-1:]
    assert "not yet measured by us; checked on your GPU at first use" in line


@pytest.fixture
def one_gpu(monkeypatch):
    """A GPU that is not there, on a machine with this PATH alone."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    missing = c_compiler.missing
    missing.cache_clear()
    yield
    missing.cache_clear()


def test_triton_is_not_there_without_what_builds_its_launcher(one_gpu, tmp_path, monkeypatch):
    def reason() -> str | None:
        c_compiler.missing.cache_clear()
        return backend.unavailable()

    monkeypatch.setattr(c_compiler, "_headers", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert re.search("neither gcc nor clang: install gcc, or set CC", reason())
    monkeypatch.setenv("CC", "nocc")
    assert re.search("CC='nocc' is none that can be run", reason())
    for name in ("clang", "nocc"):
        tmp_path.joinpath(name).touch(0o755)
    assert re.search("Python.h: install Python's development files", reason())
    tmp_path.joinpath("Python.h").touch()
    assert reason() is None
    monkeypatch.delenv("CC")
    assert reason() is None


def test_one_gpu_that_is_new_enough_will_do(one_gpu, monkeypatch):
    monkeypatch.setattr(c_compiler, "missing", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    assert backend.unavailable() == "the GPU is sm_75, sm_80 or newer is needed"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0) if device else (7, 5))
    assert backend.unavailable() is None


def test_reasons(monkeypatch):
    rule, x = Rule(), torch.zeros(1, 16, 4, 4)
    assert "this backend runs on GPUs" in backend.can_run(rule, x)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "Triton is not installed" in backend.unavailable()
    with pytest.raises(RuntimeError, match="backend 'triton' cannot run this: Triton is not installed"):
        backends.choose(rule, x, "triton")


@pytest.mark.parametrize(
    ("rule", "size", "reason"),
    [
        (Rule(channels=129), (4, 4), "129 channels are too many"),
        (Rule(hidden=257), (4, 4), "a hidden layer of 257 is too wide"),
        (Rule(hidden=(129, 8)), (4, 4), "a hidden layer of 129 is too wide"),
        (Rule(perception="dense", dense_channels=129), (4, 4), "dense_channels=129 are too many"),
        (Rule(norm="group", norm_groups=2, hidden=(8, 8)), (4, 4), "norm='group' with 2 hidden layers is not fused"),
        (Rule(), (2**16, 2**15), "about 2\\*\\*31 cells or more"),
    ],
)
def test_what_it_does_not_run(rule, size, reason, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "device", property(lambda x: torch.device("cuda")), raising=False)
    x = torch.empty(1).expand(1, 1, *size)
    assert re.search(reason, backend.can_run(rule, x))


def test_precision_follows_torch_and_is_checked(monkeypatch):
    monkeypatch.delenv("NCAFAST_PRECISION", raising=False)
    assert precision() == "tf32"  # torch's default for convolutions
    convolutions = torch.backends.cudnn.conv
    before, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    try:
        assert precision() == "ieee"
    finally:
        convolutions.fp32_precision = before
    with use_precision("bf16"):
        assert precision() == "bf16"
    monkeypatch.setenv("NCAFAST_PRECISION", "half")
    with pytest.raises(ValueError, match="NCAFAST_PRECISION='half' is not known: choose from ieee, tf32"):
        precision()
    with pytest.raises(ValueError, match="precision='fp8' is not known"), use_precision("fp8"):
        pass
