"""The CUDA shim itself: it runs right kernels right, and it catches the faults that it is there to catch.

The kernels are in cuda_shim/selftest.cu, once built plainly and once with AddressSanitizer.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from cuda_shim.build import compiler, shim_flags
from cuda_shim.selftest import RIGHT

SOURCE = Path(__file__).with_name("cuda_shim") / "selftest.cu"
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(compiler()) is None, reason="the shim needs Linux and GCC"
)

# Faults that show in the numbers: threads go on in random order, and memory that nobody wrote is full of NaN.
WRONG = {
    "async copy not awaited": "copied: -?nan, expected",
    "barrier missing": "neighbour: -?nan, expected",
    "cluster sync missing": "other block's memory: -?nan, expected",
    "cluster turns, sync missing": "sum: \\S+, expected",
    "dependent launch not awaited": "value: 6, expected 12",
    "grid sync missing": "neighbour: -?nan, expected",
}
# Faults that end the process, and by what words.
FATAL = {
    "cluster left": "cluster_map: that block has ended",
    "deadlock": "deadlock, threads wait for others that never come:\n  block 0 thread 0 waits at barrier",
    "divergence": "lanes of a warp meet at different collectives: __shfl_sync and __ballot_sync",
}
OUTSIDE = {
    "outside global": "heap-buffer-overflow",
    "outside shared": "heap-buffer-overflow",
    "outside array": "index 5 out of bounds for type 'float [5]'",
    "outside shared of arena": "use-after-poison",
    "outside workspace": "use-after-poison",
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The program as it is and with AddressSanitizer, both compiled at once."""
    folder = tmp_path_factory.mktemp("selftest")
    paths = {kind: folder / f"selftest{kind}" for kind in ("", "address")}
    commands = [[compiler(), *shim_flags(kind), str(SOURCE), "-o", str(path)] for kind, path in paths.items()]
    started = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for words in commands]
    for process in started:
        _, printed = process.communicate()
        assert process.returncode == 0, printed
    return paths


def run(program: Path, *words: str, **variables: str) -> tuple[int, str]:
    environment = {"ASAN_OPTIONS": "detect_leaks=0"} | variables
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=1800, env=environment)
    return done.returncode, done.stdout + done.stderr


def test_every_kernel_is_here(programs):
    code, listed = run(programs[""], "")
    assert code == 2
    assert sorted(listed.splitlines()) == sorted([*RIGHT, *WRONG, *FATAL, *OUTSIDE])


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("kind", ["", "address"])
def test_right_kernels_run_right(programs, kind, name):
    code, printed = run(programs[kind], name)
    assert code == 0, printed


@pytest.mark.parametrize("kind", ["", "address"])
def test_launches_and_barriers_are_timed(programs, kind):
    code, printed = run(programs[kind], "time", "2", "3")
    assert code == 0, printed
    rows = list(csv.DictReader(printed.splitlines()))
    found = Counter((row["metric"], int(row["blocks"])) for row in rows)
    assert found == {
        **dict.fromkeys([(f"launch {kind}", 3) for kind in ("plain", "dependent")], 1),
        **dict.fromkeys([(f"launch {kind} on the host", 3) for kind in ("plain", "dependent")], 1),
        **dict.fromkeys([("grid barrier", blocks) for blocks in (3, 6)], 2),
        **dict.fromkeys([("cluster barrier", blocks) for blocks in (2, 4, 8)], 3),
    }
    assert all(float(row["p20"]) <= float(row["p50"]) <= float(row["p80"]) for row in rows)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_waited_for_gives_wrong_numbers(programs, name):
    code, printed = run(programs[""], name)
    assert code == 1
    assert re.search(WRONG[name], printed), printed


@pytest.mark.parametrize(
    ("variable", "value", "awaited"),
    [
        ("NCAFAST_CUDA_PLAIN_LAUNCH", "1", True),
        ("NCAFAST_CUDA_SYNC", "1", True),
        ("NCAFAST_CUDA_PLAIN_LAUNCH", "0", False),
        ("NCAFAST_CUDA_SYNC", "0", False),
    ],
)
def test_either_switch_makes_a_kernel_wait_for_the_one_before_it(programs, variable, value, awaited):
    code, printed = run(programs[""], "dependent launch not awaited", **{variable: value})
    assert code == (0 if awaited else 1), printed


@pytest.mark.parametrize("name", FATAL)
def test_threads_that_never_meet_are_named(programs, name):
    code, printed = run(programs[""], name)
    assert code < 0
    assert FATAL[name] in printed


@pytest.mark.parametrize("name", OUTSIDE)
def test_reads_out_of_bounds_are_named(programs, name):
    code, printed = run(programs["address"], name)
    assert code != 0
    assert OUTSIDE[name] in printed
