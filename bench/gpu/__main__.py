"""Everything that a bare GPU machine can tell in nine minutes; bench/gpu.sh starts it.

    python -m bench.gpu [STEP...]    all steps, or those named, in their order

Imports neither torch nor ncafast, so that a step that cannot says so and the others go on.

Environment: OUT, the folder of log and results; LIMIT_S, seconds of all steps together; DRY=1, tiny sizes on the CPU,
where the CPU backend, or the shim that NCAFAST_CUDA_SHIM names, stands in for the CUDA kernels.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from datetime import datetime, timezone
from pathlib import Path

from bench.gpu.steps import Background, Run, wait

LIMIT = 530.0  # seconds
RULES = (
    "2d",
    "batch norm",
    "alive",
    "extra",
    "reflect, bias",
    "circular",
    "dense",
    "k5 reflect",
    "two hidden, norm",
    "3d circular",
    "wide",
)
_FULL = ["--case", "maxnca", "texture", "--mode", "train", "forward", "--rounds", "5", "--device", "cuda"]
_TINY = ["--case", "maxnca", "--mode", "forward", "--rounds", "1", "--size", "quick", "--device", "cpu"]
_SUITES = ("gpu_suite.py", *(f"cuda_{part}_suite.py" for part in ("rollout", "backward", "layers", "half")))
_CUDA_TESTS = [f"tests/backends/{name}" for name in _SUITES]


class Script:
    """The steps by name.

    Args:
        run: clock and log.
        out: folder of the results.
        scratch: folder of what steps leave for each other.
        dry: tiny, without a GPU.
    """

    def __init__(self, run: Run, out: Path, scratch: Path, dry: bool) -> None:
        self.run, self.out, self.scratch, self.dry = run, out, scratch, dry
        self.date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        self.program = str(scratch / "selftest")
        self.tiny = ["tiny"] if dry else []
        self.backgrounds: list[Background] = []
        self.steps: dict[str, Callable[[], object]] = {
            "machine": lambda: self._step("machine", 30, "machine"),
            "build": self.build,
            "selftest": self.selftest,
            "cuda-parity": self.cuda_parity,
            "ceilings": lambda: self._quiet("ceilings", 30, "ceilings", *self._where(), *self.tiny),
            "cuda-times": lambda: self._cores("cuda", 90),
            "triton-parity": self.triton_parity,
            "triton-times": lambda: self._cores("triton", 70),
            "eager-times": lambda: self._cores("eager", 80),
            "again": lambda: self._step("again", 40, "parity", "--again", str(out), str(scratch), "35"),
            "memcheck": self.memcheck,
            "compile": self.compile,
        }

    def all(self, names: list[str]) -> None:
        """Run the steps of these names, then print the table."""
        unknown = [name for name in names if name not in self.steps]
        if unknown:
            raise SystemExit(f"step {unknown[0]!r} is not known: choose from {', '.join(self.steps)}")
        try:
            for name, step in self.steps.items():
                if not names or name in names:
                    step()
        finally:
            for background in self.backgrounds:
                background.close()

    def table(self) -> None:
        """The short table."""
        self.run.limit += 30  # it is what all was for
        self._step("table", 20, "table", *self._where())

    def build(self) -> None:
        """The kernels, and beside them the self-test and what Triton compiles."""
        shim = ["shim"] if self.dry else []
        selftest = Background([*module("selftest"), "build", self.program, *shim], self.out / "selftest-build.txt")
        if not self.dry:
            processes = str(max((os.cpu_count() or 4) - 2, 1))
            self.backgrounds.append(Background([*module("warm"), processes], self.out / "triton-compiled.txt"))
            self._step("build", 100, "build", str(self.scratch))
        wait(selftest.process, 60)
        selftest.close()

    def selftest(self) -> None:
        """Hardware against the shim; launches and barriers."""
        sizes = ["2", "3"] if self.dry else []
        self._quiet("selftest", 30, "selftest", "run", self.program, str(self.out), self.date, *sizes)

    def cuda_parity(self) -> None:
        """All tests of the CUDA backend."""
        if not self.dry:
            self._parity("cuda", 45, _CUDA_TESTS)
        elif os.environ.get("NCAFAST_CUDA_SHIM"):
            self._parity("cuda", 60, [*_CUDA_TESTS, "-k", "parity_with_float64 and 2d or each_way and one"])
        else:
            self._parity("cpu", 60, ["tests/backends/gpu_suite.py", "-k", "parity_with_float64 and 2d"])

    def triton_parity(self) -> None:
        """About ten rules and the lists on Triton."""
        tests = [f"tests/backends/gpu_suite.py::test_parity_with_float64[{name}]" for name in RULES]
        tests += ["tests/backends/triton_suite/kernels.py"]
        if self.dry:
            tests = [tests[0]]
        self._parity("triton", 75, tests, TRITON_INTERPRET="1" if self.dry else "0")

    def memcheck(self) -> None:
        """The memory checker on four rules."""
        checker = [
            "compute-sanitizer",
            "--tool",
            "memcheck",
            "--kernel-name",
            "regex=ncafast",
            "--error-exitcode",
            "1",
        ]
        shim = os.environ.get("NCAFAST_CUDA_SHIM")
        backend = "cuda" if shim or not self.dry else "cpu"
        command = [*([] if self.dry else checker), *module("memcheck"), *self.tiny]
        self.run.step("memcheck", 60, command, NCAFAST_BACKEND=backend, PYTORCH_NO_CUDA_MEMORY_CACHING="1")

    def compile(self) -> None:
        """torch.compile, with what is left."""
        backend, size = ("cpu", _TINY) if self.dry else ("cuda", _FULL)
        command = [sys.executable, "-m", "bench", "--provider", "eager", "compile", f"ncafast:{backend}"]
        command += ["--output", str(self.out), *size]
        with self._alone():
            self.run.step("compile", self.run.limit, command)

    def _parity(self, backend: str, seconds: int, options: list[str], **variables: str) -> None:
        command = [*module("parity"), backend, str(self.out), str(self.scratch), str(seconds - 5), *options]
        plain = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "NCAFAST_BACKEND": backend}
        workers = {"WORKERS": "2"} if self.dry else {}
        self.run.step(f"{backend} parity", seconds, command, **plain, **workers, **variables)

    def _cores(self, kind: str, seconds: int) -> None:
        if kind == "triton" and self.dry:
            os.environ["TRITON_INTERPRET"] = "1"
        self._quiet(f"{kind} times", seconds, "cores", kind, *self._where(), str(seconds - 10), *self.tiny)

    def _quiet(self, name: str, seconds: float, what: str, *words: str) -> None:
        with self._alone():
            self._step(name, seconds, what, *words)

    def _alone(self) -> ExitStack:
        """Whatever works beside the steps stands still."""
        stack = ExitStack()
        for background in self.backgrounds:
            stack.enter_context(background.paused())
        return stack

    def _step(self, name: str, seconds: float, what: str, *words: str) -> None:
        self.run.step(name, seconds, [*module(what), *words])

    def _where(self) -> tuple[str, str, str]:
        return str(self.out), str(self.scratch), self.date


def module(name: str) -> list[str]:
    """The command that runs a file beside this one."""
    return [sys.executable, "-m", f"bench.gpu.{name}"]


def main(names: list[str]) -> int:
    """Run it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the step under way, too
    dry = os.environ.get("DRY") == "1"
    out = Path(os.environ.get("OUT") or "bench-out").resolve()
    run = Run(out, float(os.environ.get("LIMIT_S") or LIMIT))
    os.environ["NCAFAST_TRIAL"] = "0"  # every backend is named
    if dry:
        os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() if not dry else nullcontext(str(out / "scratch")) as scratch:
        Path(scratch).mkdir(exist_ok=True)
        script = Script(run, out, Path(scratch), dry)
        script.all(names)
        script.table()
    run.say(f"\nlog and results: {out}, {run.elapsed():.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
