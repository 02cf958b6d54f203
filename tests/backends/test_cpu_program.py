"""The CPU backend's portable kernels in a program, against the float64 reference: on this processor, and on arm64.

For arm64 the program is compiled by a cross-compiler and runs in an emulator: g++-aarch64-linux-gnu and
qemu-user-static of Debian and Ubuntu.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import Counter

import pytest
import torch
from cases import CASES
from cpu_program.backend import ProgramBackend
from cpu_program.build import built, output
from hypothesis import HealthCheck, Phase, given, settings
from parity import check_case
from test_cpu_random import calls, compare

from ncafast import backends
from ncafast.backends import registry

RUNS = [name for name, (rule, _) in CASES.items() if backends.get("cpu").can_run(rule, torch.zeros(1)) is None]
CROSS = "aarch64-linux-gnu-"


def native() -> list[str]:
    """The command that runs the program here; little is optimised, since that takes longest."""
    compiler = os.environ.get("CXX", "g++")
    if sys.platform != "linux" or shutil.which(compiler) is None:
        pytest.skip("the program needs Linux and GCC")
    return [str(built("cpu-program", compiler, "-O0"))]


def arm64() -> list[str]:
    """The command that runs it on emulated arm64, compiled as setup.py does and without a warning."""
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if shutil.which(f"{CROSS}g++") is None or emulator is None:
        pytest.skip(f"there is no {CROSS}g++ or no qemu-aarch64")
    return [emulator, str(built("cpu-program-arm64", f"{CROSS}g++", "-O3", "-static", "-Wall", "-Wextra", "-Werror"))]


@pytest.fixture(scope="module")
def backend(request):
    """The name of the backend that runs the program."""
    found = ProgramBackend(*request.param())
    registry.names()  # which loads the others
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.loaded, "program", found)
        yield "program"


@pytest.mark.parametrize("backend", [arm64], indirect=True)
@pytest.mark.parametrize("name", RUNS)
def test_parity_with_float64_on_arm64(backend, name):
    check_case(backend, name)


@pytest.mark.parametrize("backend", [native], indirect=True)
@pytest.mark.parametrize("name", RUNS[::4])  # test_cpu.py has the kernels with all cases; this is about the program
def test_parity_with_float64_here(backend, name):
    check_case(backend, name)


@pytest.fixture
def one_thread():
    """Tiny tensors: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("backend", [arm64], indirect=True)  # test_cpu_random.py has the portable kernels of this one
@settings(
    max_examples=int(os.environ.get("NCAFAST_RANDOM_RULES") or 30),
    derandomize="NCAFAST_RANDOM_RULES" not in os.environ,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # a failing rule is not made smaller, which takes a process for every try
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(calls())
def test_random_rules(backend, call):
    """Where a long sum all but cancels, rounding can exceed the bound on any processor: then this one's must too."""
    try:
        compare(call, backend)
    except AssertionError:
        with pytest.raises(AssertionError, match="error .* > "):
            compare(call, "cpu")


def test_hot_loops_of_arm64_are_fused_multiply_adds_of_four_floats():
    """In matrix products and depthwise filters, where nearly all arithmetic is. The compiler may inline as it likes."""
    *_, program = arm64()
    counts, function = Counter(), ""
    for line in output(f"{CROSS}objdump", "-d", "--demangle", program).splitlines():
        if header := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            function = header[1]
        elif re.search(r"\tfmla\tv\d+\.4s", line):
            counts[function] += 1
    products = sum(count for name, count in counts.items() if re.search(r"portable::(gemm|strips|panel|micro)<", name))
    assert products >= 400  # GCC 12 gives each of the five kinds of product 108 or more
    filters = {name: re.search(r"portable::filter_cells<(\d+), (\d+), (\d+)", name) for name in counts}
    for name, sizes in filters.items():  # <cells, filters, taps>: each with all others at once
        assert sizes is None or counts[name] >= int(sizes[1]) * int(sizes[2]) * int(sizes[3]), name
    assert sum(sizes is not None for sizes in filters.values()) >= 20
