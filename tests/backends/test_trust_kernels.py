"""Trials end to end without a GPU: right and faulty kernels on the CUDA shim, and Triton's interpreter."""

from __future__ import annotations

import importlib.util
import shutil
import sys

import numpy
import pytest
from cuda_shim.build import ROOT, build, compiler

from ncafast import Rule
from ncafast.backends import child

RULE = Rule(5, hidden=(7,), num_filters=2)
NORM_RULE = Rule(5, hidden=(7,), num_filters=2, norm="batch")
needs_shim = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(compiler()) is None, reason="the shim needs Linux and GCC"
)

# Each fault: file, the line that is changed, what stands in its place while the fault is switched on.
FAULTS = {
    "a missing barrier": (
        "step.cuh",
        "count - first < rows ? count - first : rows, m.y);\n    __syncthreads();",
        "count - first < rows ? count - first : rows, m.y);\n    if (!planted(1)) __syncthreads();",
    ),
    "a wrong tap": (
        "perception.cuh",
        "quad_at(seen[j] + shift + x * channels4)",
        "quad_at(seen[j] + shift + (planted(2) && x == 1 ? 0 : x) * channels4)",
    ),
    "a mask of another stream": (
        "active.cuh",
        "draw(seed, Stream::fire, ",
        "draw(seed, planted(3) ? Stream::noise : Stream::fire, ",
    ),
    "a NaN": (
        "step.cuh",
        "make_float2(moved(s, c, old.x,",
        "make_float2(planted(4) && shown_cell(s, shown, place) == 9 ? NAN : moved(s, c, old.x,",
    ),
    "an unwritten cell": (
        "step.cuh",
        "      if (r >= count) continue;\n      const int place",
        "      if (r >= count || (planted(5) && list[r] % 11 == 3)) continue;\n      const int place",
    ),
}
# Those of kernels that batch norm alone has.
NORM_FAULTS = {
    "parts added up before all are there": (
        "tree.cuh",
        "static_cast<uint32_t>(blocks - 1)",
        "static_cast<uint32_t>(blocks - 1 - (planted(6) && blocks > 1))",
    ),
    "tickets that are not set back": ("tree.cuh", "if (last) *ticket = 0;", "if (last && !planted(7)) *ticket = 0;"),
    "a kernel that does not wait for dL/dy": (
        "batch_norm_backward.cuh",
        "  grid_dependency_wait();",
        "  if (!planted(8)) grid_dependency_wait();",
    ),
}
# Those of half-precision states.
HALF_FAULTS = {
    "a channel in another's place": (
        "stored.cuh",
        "narrowed<T>(value.y)",
        "narrowed<T>(planted(9) ? value.z : value.y)",
    ),
    "a cell that is not stored": (
        "stored.cuh",
        "const int place = place_of(number);",
        "const int place = place_of(number);\n      if (planted(10) && number % 11 == 3) continue;",
    ),
}
ALL_FAULTS = FAULTS | NORM_FAULTS | HALF_FAULTS
SWITCH = """
#include <cmath>
#include <cstdlib>
inline bool planted(int fault) {
  static const char* on = std::getenv("NCAFAST_TEST_FAULT");
  return on && std::atoi(on) == fault;
}
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """The kernels with all faults, each of which NCAFAST_TEST_FAULT switches on."""
    folder = tmp_path_factory.mktemp("faults")
    shutil.copytree(ROOT / "csrc", folder / "csrc")
    for file, line, instead in ALL_FAULTS.values():
        path = folder / "csrc" / "cuda" / file
        text = path.read_text()
        assert text.count(line) == 1, f"{file} has no such line, or several: {line}"
        path.write_text(text.replace(line, instead))
    path = folder / "csrc" / "philox.h"
    path.write_text(path.read_text() + SWITCH)
    return build(folder / "build", csrc=folder / "csrc")


def request(backend, *rules, sizes=((6, 7),)):
    return {
        "backend": backend,
        "rules": [rule.to_json() for rule in rules],
        "device": "cpu",
        "precision": "ieee",
        "dtype": "float32",
        "sizes": sizes,
    }


@needs_shim
@pytest.mark.parametrize("number", range(len(FAULTS) + 1), ids=["right", *FAULTS])
def test_faulty_kernels_are_refused(number, module, monkeypatch):
    monkeypatch.setenv("NCAFAST_BACKEND", "cuda")
    monkeypatch.setenv("NCAFAST_CUDA_SHIM", str(module))
    monkeypatch.setenv("NCAFAST_TEST_FAULT", str(number))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    verdict = child.run(request("cuda", RULE))
    assert verdict.state == ("failed" if number else "passed"), verdict
    assert verdict.fused_ms is None  # nothing is timed where there is no GPU
    if number == 3:
        assert "another fire mask" in verdict.reason
    elif number:
        assert "is off by" in verdict.reason or "another fire mask" in verdict.reason or "differ" in verdict.reason


@needs_shim
@pytest.mark.parametrize(
    "number", [0, *range(len(FAULTS) + 1, len(FAULTS) + len(NORM_FAULTS) + 1)], ids=["right", *NORM_FAULTS]
)
def test_faulty_kernels_of_batch_norm_are_refused(number, module, monkeypatch):
    for name, value in {
        "NCAFAST_BACKEND": "cuda",
        "NCAFAST_CUDA_SHIM": str(module),
        "NCAFAST_TEST_FAULT": str(number),
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    verdict = child.run(request("cuda", NORM_RULE))
    assert verdict.state == ("failed" if number else "passed"), verdict
    if number:
        assert "is off by" in verdict.reason or "differ" in verdict.reason


@needs_shim
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("fault", ["right", *HALF_FAULTS])
def test_faulty_kernels_of_half_precision_states_are_refused(fault, dtype, module, monkeypatch):
    """Rules that these states do not go with are left out."""
    for name, value in {
        "NCAFAST_BACKEND": "cuda",
        "NCAFAST_CUDA_SHIM": str(module),
        "NCAFAST_TEST_FAULT": str(["right", *ALL_FAULTS].index(fault)),
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    verdict = child.run(request("cuda", RULE, NORM_RULE) | {"dtype": dtype})
    assert verdict.state == ("passed" if fault == "right" else "failed"), verdict
    if fault != "right":
        assert "is off by" in verdict.reason or "another fire mask" in verdict.reason or "differ" in verdict.reason


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_triton_in_its_interpreter(monkeypatch, dtype):
    import triton

    old = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 8)
    if old and tuple(map(int, numpy.__version__.split(".")[:2])) >= (2, 4):
        pytest.skip("Triton's interpreter before 3.8 does not run beside NumPy 2.4 and newer")
    for name, value in {"NCAFAST_BACKEND": "triton", "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    asked = request("triton", Rule(3, hidden=(4,), num_filters=1), sizes=((4, 5),)) | {"dtype": dtype}
    verdict = child.run(asked, run_limit=3600.0)
    assert verdict.state == "passed", verdict


@needs_shim
def test_rules_that_a_gpu_refuses_are_left_out(module, monkeypatch):
    monkeypatch.setenv("NCAFAST_BACKEND", "cuda")
    monkeypatch.setenv("NCAFAST_CUDA_SHIM", str(module))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    too_wide = Rule(80, hidden=(8,))
    assert child.run(request("cuda", too_wide, RULE)).state == "passed"
    verdict = child.run(request("cuda", too_wide))
    assert (verdict.state, "no rule" in verdict.reason) == ("unchecked", True)
