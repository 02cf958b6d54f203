"""Times of one case on one provider in one launch strategy and precision, its errors beside them, and its kernels.

    python -m bench.gpu.core CASE PROVIDER LABEL PRECISION OUT SCRATCH DATE [tiny]

LABEL names the provider in the results. A provider whose parity is red is timed all the same, and marked: on a bare
machine a time that has an error beside it is worth more than none.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.gpu import ceilings, kernels
from bench.gpu.rows import Rows
from bench.gpu.turns import turn
from ncafast.backends import cuda
from ncafast.backends.precision import use_precision
from ncafast.bench import judged, report, results, work
from ncafast.bench.cases import select
from ncafast.bench.modes import FORWARD, TRAIN
from ncafast.bench.problem import Problem
from ncafast.bench.providers import Eager, Fused, Provider, TorchRunner
from ncafast.measuring.timing import Call, Spread, spread, synchronize

ROUNDS, WARM = 30, 3
SECONDS = 25  # that a process may have the GPU
_BUDGET = 3.0  # seconds of the rounds of one mode; there are at least five


def main(words: list[str]) -> int:
    """Returns 1 where parity is red, 2 where the provider cannot run."""
    case, provider, label, precision, out, scratch, date, *tiny = words
    device = torch.device("cpu" if tiny else "cuda")
    with turn(Path(scratch), SECONDS), use_precision(precision):
        as_eager(precision)
        chosen = select([case])[0]
        problem = Problem(chosen, chosen.tiny() if tiny else chosen.sizes["gpu"], device)
        rows = Rows(Path(out), date, "tiny" if tiny else "gpu")
        return Core(problem, provider_of(provider), label, rows, Path(scratch)).run(2 if tiny else ROUNDS)


def as_eager(precision: str) -> None:
    """Plain PyTorch's products, of convolutions and of linear layers, are rounded alike."""
    name = "tf32" if precision == "tf32" else "ieee"
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    cudnn.conv.fp32_precision = matmul.fp32_precision = name


def provider_of(name: str) -> Provider:
    """Plain PyTorch, or "ncafast:BACKEND"."""
    return Eager() if name == "eager" else Fused(name.partition(":")[2])


class Core:
    """One provider at one problem."""

    def __init__(self, problem: Problem, provider: Provider, label: str, rows: Rows, scratch: Path) -> None:
        self.problem, self.provider, self.label, self.rows, self.scratch = problem, provider, label, rows, scratch

    def run(self, rounds: int) -> int:
        """What can fail in fewer ways comes first: forward, training, checks. Every row is written as it comes."""
        reason = self.provider.why_not(self.problem, TRAIN)
        if reason is not None:
            self._row(TRAIN, results.ABSENT, note=reason)
            print(f"{self._name()} not measured: {reason}")
            return 2
        runner = self.provider.open(self.problem)
        assert isinstance(runner, TorchRunner)
        with strategies() as went:
            lines = [self._time(runner, mode, rounds) for mode in (FORWARD, TRAIN)]
        errors = self._judge(runner, sorted(went))
        for line in lines:
            print(f"{line}  {errors}", flush=True)
        self._kernels(runner)
        return int("RED" in errors)

    def _time(self, runner: TorchRunner, mode: str, rounds: int) -> str:
        """Rows of a mode, and a line that says the same."""
        steps = self.problem.size.steps
        taken = spread(timed(runner.queued(mode), rounds, self.problem.device)).scaled(1e3 / steps)
        self._row(mode, "time", taken, "ms/step", rounds=str(rounds))
        rule, size = self.problem.rule, self.problem.size
        todo = work.train(rule, self.problem.learned_filters) if mode == TRAIN else work.forward(rule)
        shares = []
        for name, (rate, unit) in ceilings.read(self.scratch).items():
            amount = todo.bytes if name == "copy" else todo.flop
            share = 100 * amount * size.cells / rate / (taken.p50 * 1e-3)
            self._row(mode, f"share of {name}", share, f"% of {rate:.3g} {unit}")
            shares.append(f"{share:.0f} % of {name}")
        figures = f"{report.short(taken.p50):>8} ms/step ({report.short(taken.p20)}-{report.short(taken.p80)})"
        return f"{self._name()} {mode:<8}{figures:<34}{', '.join(shares)}"

    def _judge(self, runner: TorchRunner, went: list[str]) -> str:
        """Rows of the errors, and what they say in a few words."""
        found = judged.verdict(self.provider, runner, training=True)
        for metric, error in (("error", found.state), ("gradient error", found.gradient)):
            if not math.isnan(error):
                self._row(TRAIN, metric, error, "relative", note=", ".join(went))
        if found.wrong is not None:
            self._row(TRAIN, results.WRONG, note=found.wrong)
        text = f"error {report.short(found.state)}, of gradients {report.short(found.gradient)}"
        took = f"  [{', '.join(went)}]" if went else ""
        return text + took + (f"  RED: {found.wrong}" if found.wrong else "")

    def _kernels(self, runner: TorchRunner) -> None:
        """Rows of the kernels of one training call."""
        call, steps = runner.queued(TRAIN), self.problem.size.steps
        for name, microseconds, count in kernels.of(lambda: call(0), self.problem.device):
            note = f"{name} ({count / steps:.3g} a step)"
            self._row(TRAIN, "kernel", microseconds / steps, "us/step", note=note)

    def _row(self, mode: str, metric: str, value: Spread | float | None = None, unit: str = "", **more: str) -> None:
        case, shape = self.problem.case.name, str(self.problem.size)
        self.rows.add(self.label, metric, value, unit, case=case, shape=shape, mode=mode, **more)

    def _name(self) -> str:
        return f"{self.problem.case.name:<12}{self.label:<34}"


def timed(call: Call, rounds: int, device: torch.device) -> list[float]:
    """Seconds of every round, on the GPU's own clock."""
    for number in range(WARM):
        start = time.perf_counter()
        call(number)
        synchronize(device)
        last = time.perf_counter() - start
    rounds = max(min(rounds, int(_BUDGET / last)), 5) if rounds > 5 else rounds
    return [_once(lambda: call(number), device) for number in range(rounds)]  # noqa: B023  (called at once)


def _once(call: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e-3


class strategies:
    """The CUDA launch strategies that rollouts inside the block took, as a set."""

    def __enter__(self) -> set[str]:
        self.found: set[str] = set()
        self.before = cuda._module
        module, found = self.before, self.found

        class Recorded:
            def __getattr__(self, name: str) -> Any:
                return getattr(module(), name)

            def forward(self, *arguments: Any) -> Any:
                went = module().forward(*arguments)
                found.add(f"{cuda.LAUNCH_STRATEGIES[went[0]]}" + (f" of {went[1]}" if went[1] > 1 else ""))
                return went

        cuda._module = Recorded  # type: ignore[assignment]
        return found

    def __exit__(self, *_: object) -> None:
        cuda._module = self.before


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
