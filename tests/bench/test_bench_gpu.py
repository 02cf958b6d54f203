"""The script for a bare GPU machine, without one: a fault costs one test or one step, and all steps run in tiny."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ncafast.bench import results
from ncafast.bench.results import Row

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.gpu import cores, kernels, table  # noqa: E402
from bench.gpu.pool import Pool, Result  # noqa: E402
from bench.gpu.steps import Background, Run  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the script is for Linux")

TESTS = """
import os, sys, time
import pytest

def test_right(): pass
def test_wrong(): assert 1 + 1 == 3
def test_hangs(): time.sleep(3600)
def test_dies(): os._exit(7)
def test_breaks(): sys.modules["__main__"].cuda_error = lambda: "CUDA error: an illegal memory access"
def test_skipped(): pytest.skip("not here")
@pytest.mark.parametrize("n", range(4))
def test_more(n): pass
"""


@pytest.fixture
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def test_a_test_that_hangs_dies_or_breaks_the_gpu_fails_alone(in_root, tmp_path):
    tmp_path.joinpath("test_faults.py").write_text(TESTS)
    told: list[Result] = []
    pool = Pool([str(tmp_path), "--rootdir", str(tmp_path)], 2, 10, time.monotonic() + 600, told.append)
    found = {result.test.partition("::")[2]: result for result in pool.run()}
    assert {name: result.outcome for name, result in found.items()} == {
        "test_right": "passed",
        "test_wrong": "failed",
        "test_hangs": "took too long",
        "test_dies": "ended its process with 7",
        "test_breaks": "broke the GPU",
        "test_skipped": "skipped",
        **{f"test_more[{n}]": "passed" for n in range(4)},
    }
    assert found["test_wrong"].reason == "assert (1 + 1) == 3"
    assert found["test_breaks"].reason == "CUDA error: an illegal memory access"
    assert sorted(map(id, told)) == sorted(map(id, found.values()))


def test_tests_that_there_is_no_time_for_are_said(in_root, tmp_path):
    tmp_path.joinpath("test_faults.py").write_text("import time\ndef test_one(): pass\ndef test_two(): pass\n")
    pool = Pool([str(tmp_path), "--rootdir", str(tmp_path)], 1, 60, time.monotonic() + 600, lambda result: None)

    def tell(result: Result) -> None:
        pool.until = 0.0  # after the first

    pool.tell = tell
    assert [result.outcome for result in pool.run()] == ["passed", "was not run"]


def test_tests_that_cannot_be_collected_say_why(in_root, tmp_path):
    tmp_path.joinpath("test_faults.py").write_text("import nowhere_to_be_found\n")
    pool = Pool([str(tmp_path), "--rootdir", str(tmp_path)], 1, 60, time.monotonic() + 600, lambda result: None)
    assert pool.run() == []
    assert "nowhere_to_be_found" in pool.problem


class Clock:
    """Seconds that pass only when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_step_is_ended_at_its_limit_with_its_children_and_the_next_one_runs(tmp_path, capfd):
    run = Run(tmp_path, 1000)
    pid = tmp_path / "pid"
    run.step("slow", 5, ["bash", "-c", f"sleep 3600 & echo $! > {pid}; echo started; wait"])
    assert run.step("missing", 60, ["no-such-program"]) is None
    run.step("next", 60, [sys.executable, "-c", "import os; print(os.environ['SOME']); raise SystemExit(3)"], SOME="a")
    shown = capfd.readouterr().out
    assert "started\n== slow: stopped at its limit after" in shown
    assert "== missing: [Errno 2] No such file or directory: 'no-such-program'" in shown
    assert "\na\n== next: exit code 3 after" in shown
    assert tmp_path.joinpath("log.txt").read_text() == shown
    child = int(pid.read_text())
    for _ in range(600):
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and nobody waited for does not."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_steps_after_the_limit_are_left_out(tmp_path, capfd):
    clock = Clock()
    run = Run(tmp_path, 100, clock)
    clock.now = 96
    assert run.step("late", 60, ["false"]) is None
    assert "late: left out, no time is left" in capfd.readouterr().out


def test_what_works_beside_the_steps_stands_still_while_something_is_timed(tmp_path):
    def state() -> str:
        text = Path("/proc", str(beside.process.pid), "stat").read_text()
        return text.rpartition(")")[2].split()[0]

    def becomes(wanted: set[str]) -> bool:
        return any(state() in wanted or time.sleep(0.1) for _ in range(600))

    beside = Background(["sleep", "3600"], tmp_path / "log")
    with beside.paused():
        assert becomes({"T"})
    assert becomes({"S", "R"})
    beside.close()
    assert beside.process.returncode == -signal.SIGTERM


def test_core_times_start_with_a_way_of_every_case():
    planned = list(cores.jobs("cuda"))
    assert len({job.case for job in planned[:7]}) == 7
    assert len(set(planned_key(job) for job in planned)) == len(planned)
    matched = [(job.case, job.label.rpartition(":")[2]) for job in cores.jobs("eager") if job.provider == "eager"]
    assert ("texture", "ieee") in matched and ("growing", "ieee") in matched  # as its linear layers are by default
    assert {job.variables["NCAFAST_BACKEND"] for job in cores.jobs("triton")} == {"triton"}


def planned_key(job: cores.Job) -> tuple[str, str]:
    return job.case, job.label


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (
            "void ncafast::cuda::(anonymous namespace)::step_kernel<(ncafast::cuda::Precision)1, 2>(Step)",
            "step_kernel<1, 2>",
        ),
        ("_step_kernel", "_step_kernel"),
    ],
)
def test_names_of_kernels_are_short(name, short):
    assert kernels.short(name) == short


def row(provider: str, metric: str, value: str, **more: str) -> Row:
    fields = {"case": "growing", "mode": "train", "shape": "", **more}
    return Row("now", "", "GPU", "", size="gpu", provider=provider, metric=metric, p50=value, **fields)


def test_the_table_sets_times_beside_errors_and_plain_pytorch_of_the_same_precision():
    found = [
        row("eager:ieee", "time", "6.0"),
        row("eager:tf32", "time", "3.0"),
        row("ncafast:cuda:steps:tf32", "time", "0.5"),
        row("ncafast:cuda:steps:tf32", "error", "2e-4"),
        row("ncafast:cuda:steps:tf32", results.WRONG, "", note="state: error"),
        row("ncafast:cuda:steps:tf32x3", "time", "1.0"),
        row("ncafast:cuda:steps:tf32x3", "share of copy", "10"),
        row("ncafast:cuda:steps:tf32x3", "share of FMA", "30"),
        row("ncafast:cuda:steps:tf32x3", "share of TF32", "90"),
        row("ncafast:triton:graphs:tf32", results.ABSENT, "", note="there is no GPU"),
    ]
    lines = {tuple(line.split()[:2]): line for line in table.table(found, ["cuda: 5 passed"])}
    assert lines["growing", "ncafast:cuda:steps:tf32"].split()[2:6] == ["0.5", "-", "6.00", "2.0e-04"]
    assert lines["growing", "ncafast:cuda:steps:tf32"].endswith("RED")
    assert lines["growing", "ncafast:cuda:steps:tf32x3"].split()[2:5] == ["1", "-", "6.00"]
    assert lines["growing", "ncafast:cuda:steps:tf32x3"].endswith("30 %")
    assert "there is no GPU" in lines["growing", "ncafast:triton:graphs:tf32"]
    assert ("cuda:", "5") in lines


def test_the_table_is_short():
    many = [row(f"ncafast:cuda:{n}:tf32", "time", "1") for n in range(400)]
    assert sum(len(line) + 1 for line in table.table(many, [])) <= table.MOST


def test_the_script_runs_in_tiny(tmp_path):
    """Steps that take seconds on a CPU, the CPU backend in place of the CUDA kernels."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("NCAFAST_", "LIMIT_S"))}
    done = subprocess.run(
        ["bash", "bench/gpu.sh", "machine", "ceilings", "cuda-times", "eager-times", "again", "memcheck"],
        cwd=ROOT,
        env=environment | {"DRY": "1", "OUT": str(tmp_path), "PYTHON": sys.executable, "LIMIT_S": "1500"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    (path,) = tmp_path.glob("*.csv")
    rows = results.read(path)
    assert {(row.case, row.provider) for row in rows if row.metric == "time"} == {
        ("maxnca-bn", "ncafast:cpu:steps:tf32"),
        ("growing", "ncafast:cpu:cluster:tf32"),
        ("maxnca-bn", "eager:tf32"),
    }, done.stdout
    assert not [row for row in rows if row.metric == results.WRONG]
    assert {row.metric for row in rows if row.provider == "machine"} == {"copy", "FMA", "TF32"}
    assert "3d, steps: ran" in done.stdout and "memcheck: exit code 0" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(f"log and results: {tmp_path}")
