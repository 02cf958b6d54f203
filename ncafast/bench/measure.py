"""Measuring one case: parity first, then times in turns, then memory. What fails is said and not timed."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from ncafast.bench import judged, work
from ncafast.bench.case import Case, Size
from ncafast.bench.ceilings import Ceilings, Rates, peak
from ncafast.bench.launches import count_launches
from ncafast.bench.modes import FORWARD, INFERENCE, MEMORY, TRAIN
from ncafast.bench.parity import Verdict
from ncafast.bench.problem import Problem
from ncafast.bench.providers import Provider, Runner
from ncafast.bench.results import PEAK_SHARE, ROUNDED
from ncafast.measuring.memory import peak_bytes
from ncafast.measuring.progress import Say, silent
from ncafast.measuring.timing import Call, Spread, interleave, spread

_MIB = 2**20
_BUDGET, _LEAST_ROUNDS = 30.0, 3  # a provider may take so many seconds of a mode's rounds, and gets so many rounds
_ORDER = (TRAIN, FORWARD, INFERENCE, MEMORY)


@dataclass
class Outcome:
    """What was found about one provider in one mode.

    Attributes:
        values: metric -> (figure, unit).
        absent: why nothing was measured, or None.
        wrong: in what its parity check failed, or None; then there is no time.
        above_peak: it was measured as faster than the machine can be, and therefore left out.
        note: what else has to be known.
        seconds: of the call that came before the timing.
        rounds: in how many rounds it took part, or None for all.
    """

    provider: str
    mode: str
    values: dict[str, tuple[Spread | float, str]] = field(default_factory=dict)
    absent: str | None = None
    wrong: str | None = None
    above_peak: bool = False
    note: str = ""
    seconds: float = 0.0
    rounds: int | None = None


class Measurement:
    """One case at one size with all of its providers."""

    def __init__(
        self,
        case: Case,
        size: Size,
        providers: Sequence[Provider],
        device: torch.device,
        ceilings: Ceilings,
        say: Say = silent,
    ) -> None:
        self.problem = Problem(case, size, device)
        self.providers, self.device, self.ceilings = providers, device, ceilings
        self.say = say
        self.runners: dict[str, Runner] = {}
        self.broken: dict[str, str] = {}  # providers that could not be opened or run, and why
        self.verdicts: dict[tuple[str, bool], Verdict] = {}

    def run(self, modes: Sequence[str], rounds: int) -> list[Outcome]:
        """Outcomes of the modes; what the machine could do in the same rounds is one of a provider "machine".

        Training comes first, since plain PyTorch's forward is far slower in a process that has not trained; memory
        comes last, since measuring it hands freed memory back.
        """
        done: list[tuple[Outcome, Call | None]] = []
        limits = []
        for mode in sorted(modes, key=_ORDER.index):
            ready = list(self._prepared(mode))
            calls = {outcome.provider: call for outcome, call in ready if call is not None}
            if calls and mode != MEMORY:
                self.say(f"{self.problem.case.name}: warming up for {mode}")
                self._warm(modes)
                trained = [outcome for outcome, _ in done if outcome.mode == TRAIN]
                limits.append(self._possible(mode, rounds, calls, {o.provider: o for o, _ in ready}, trained))
            done += ready
        for outcome, call in done:
            if call is not None and outcome.absent is None:
                self._tell(outcome, "measuring memory")
                self._remember(outcome, call)
        return [*limits, *(outcome for outcome, _ in done)]

    def _tell(self, outcome: Outcome, what: str) -> None:
        self.say(f"{self.problem.case.name}, {outcome.provider}, {outcome.mode}: {what}")

    def _prepared(self, mode: str) -> Iterator[tuple[Outcome, Call | None]]:
        """Every provider that has the mode: its outcome so far, and its call if it is to be measured."""
        for provider in self.providers:
            if mode not in provider.modes:
                continue
            outcome = Outcome(provider.name, mode)
            call = None
            outcome.absent = self.broken.get(provider.name) or provider.why_not(self.problem, mode)
            if outcome.absent is None:
                try:
                    call = self._checked(provider, outcome)
                except Exception as error:  # other people's code fails in ways that cannot be listed
                    outcome.absent = self.broken[provider.name] = _first_line(error)
            yield outcome, call

    def _checked(self, provider: Provider, outcome: Outcome) -> Call | None:
        """The call, after it has run (which compiles it where that is its way); None when the provider is wrong."""
        self._tell(outcome, "checking")
        runner = self.runners.get(provider.name)
        if runner is None:
            runner = self.runners[provider.name] = provider.open(self.problem)
        outcome.note = runner.note
        if runner.unchecked is not None:
            outcome.note = f"parity not checked: {runner.unchecked}"
        else:
            self._judge(provider, runner, outcome)
            if outcome.wrong is not None:
                return None
        self._tell(outcome, "compiling" if provider.compiles else "first call")
        call = runner.call(outcome.mode)
        first = outcome.seconds = _seconds(call, 0)
        if provider.compiles:
            outcome.seconds = _seconds(call, 1)
            outcome.values["compile"] = max(0.0, first - outcome.seconds), "s"
        if runner.steps(outcome.mode) < self.problem.size.steps:
            outcome.note = f"{runner.steps(outcome.mode)} steps per call"
        if outcome.seconds > provider.patience:
            outcome.absent = f"one call takes {outcome.seconds:.0f} s"
            return None
        return call

    def _judge(self, provider: Provider, runner: Runner, outcome: Outcome) -> None:
        training = outcome.mode != INFERENCE
        verdict = self.verdicts.get((provider.name, training))
        if verdict is None:
            verdict = judged.verdict(provider, runner, training)
            self.verdicts[provider.name, training] = verdict
        outcome.wrong = verdict.wrong
        for name, error in (("error", verdict.state), ("gradient error", verdict.gradient)):
            if not math.isnan(error):
                outcome.values[name] = error, "relative"

    def _warm(self, modes: Sequence[str]) -> None:
        """One training call of each provider where training itself is not asked for."""
        if TRAIN in modes or TRAIN not in self.problem.case.modes:
            return
        for provider in self.providers:
            if provider.name in self.runners and TRAIN in provider.modes and not provider.compiles:
                self.runners[provider.name].call(TRAIN)(0)

    def _possible(
        self, mode: str, rounds: int, calls: dict[str, Call], outcomes: dict[str, Outcome], trained: Sequence[Outcome]
    ) -> Outcome:
        """As `_time`; once more where a figure cannot be, and then it is left out."""
        limits = self._time(mode, rounds, calls, outcomes)
        if not self._impossible(mode, outcomes, trained):
            return limits
        limits = self._time(mode, rounds, calls, outcomes)
        for outcome, why in self._impossible(mode, outcomes, trained):
            outcome.absent = f"{why}, measured twice: the machine is too busy"
            outcome.above_peak = "share" in outcome.values and _median(outcome.values["share"]) > 100
            outcome.values.clear()
        return limits

    def _impossible(
        self, mode: str, outcomes: dict[str, Outcome], trained: Sequence[Outcome]
    ) -> list[tuple[Outcome, str]]:
        """Outcomes that are faster than the machine, or slower than what they are a part of."""
        found = []
        for outcome in outcomes.values():
            share = outcome.values.get("share")
            if share is not None and _median(share) > 100:
                found.append((outcome, f"{_median(share):.0f} {share[1]}"))
        too_long = _too_long(outcomes, trained) if mode == FORWARD else []
        return found + [(outcome, "forward took longer than forward and backward") for outcome in too_long]

    def _time(self, mode: str, rounds: int, calls: dict[str, Call], outcomes: dict[str, Outcome]) -> Outcome:
        """Fill in times and rates; return what the machine could do in the same rounds."""
        for name in calls:
            possible = max(_LEAST_ROUNDS, int(_BUDGET / max(outcomes[name].seconds, 1e-9)))
            outcomes[name].rounds = possible if possible < rounds else None
        fewer = {name: outcomes[name].rounds or rounds for name in calls}
        what = f"{self.problem.case.name}, {mode}, {len(calls)} providers in turns"
        every = {**calls, **self.ceilings.calls()}
        seconds = interleave(every, rounds, fewer=fewer, say=lambda text: self.say(f"{what}: {text}"))
        rates = self.ceilings.rates(seconds)
        for name in calls:
            self._rates(outcomes[name], spread(seconds[name]), rates)
        limits = Outcome("machine", mode)
        limits.values = {**rates}
        return limits

    def _rates(self, outcome: Outcome, taken: Spread, ceilings: Rates) -> None:
        size, rule = self.problem.size, self.problem.rule
        per_step = taken.scaled(1 / self.runners[outcome.provider].steps(outcome.mode))
        outcome.values["time"] = per_step.scaled(1e3), "ms/step"
        outcome.values["rate"] = per_step.under(size.cells), "cells*steps/s"
        if self.problem.working is None:
            return
        if outcome.mode == INFERENCE:
            rule = rule.for_eval()
        rule = replace(rule, fire_rate=rule.fire_rate * self.problem.working)
        todo = work.train(rule, self.problem.learned_filters) if outcome.mode == TRAIN else work.forward(rule)
        outcome.values["arithmetic"] = per_step.under(todo.flop * size.cells * 1e-9), "GFLOP/s"
        outcome.values["traffic"] = per_step.under(todo.bytes * size.cells * 1e-9), "GB/s"
        floor, unit = self._floor(outcome, todo, ceilings)
        if floor is not None:
            outcome.values["share"] = per_step.under(100 * floor * size.cells), unit

    def _floor(self, outcome: Outcome, todo: work.Work, ceilings: Rates) -> tuple[float | None, str]:
        """Least seconds per cell and step, and the unit of the share that it gives."""
        if self.device.type == "cuda":
            matmul, copy = (1e9 * ceilings[name][0].p50 for name in ("matmul", "copy"))
            return todo.floor(matmul, copy), "% of the roofline floor"
        if outcome.provider == ROUNDED:  # part of its work has another peak
            return None, PEAK_SHARE
        found = peak(ceilings, own=outcome.provider.startswith("ncafast:cpu"))
        return (None if found is None else todo.flop / found), PEAK_SHARE

    def _remember(self, outcome: Outcome, call: Call) -> None:
        """Memory of one more call, and on a GPU its kernel launches."""
        runner, size = self.runners[outcome.provider], self.problem.size
        if outcome.mode in (TRAIN, MEMORY):
            kept = runner.kept()
            if kept is not None:
                outcome.values["kept"] = kept / (size.cells * size.steps), "B/cell/step"
        busiest = runner.busiest()
        if busiest is not None:
            outcome.values["core"] = 1e3 * busiest / runner.steps(outcome.mode), "ms of a core/step"
            return  # memory is that of other processes
        peak = peak_bytes(lambda: call(0), self.device)
        if peak is not None:
            outcome.values["peak"] = peak / _MIB, "MiB"
        launches = count_launches(lambda: call(0), self.device)
        if launches is not None:
            outcome.values["launches"] = launches / runner.steps(outcome.mode), "launches/step"

    def close(self) -> None:
        """Let go of everything."""
        for runner in self.runners.values():
            runner.close()
        self.runners.clear()
        self.problem.answer.cache_clear()  # type: ignore[attr-defined]
        gc.collect()


def _too_long(outcomes: dict[str, Outcome], trained: Sequence[Outcome]) -> list[Outcome]:
    """Outcomes whose median time is above that of the same provider in training."""
    both = [(outcomes[other.provider], other) for other in trained if other.provider in outcomes]
    times = [(own, own.values.get("time"), other.values.get("time")) for own, other in both]
    return [own for own, mine, whole in times if mine and whole and _median(mine) > _median(whole)]


def _median(value: tuple[Spread | float, str]) -> float:
    return value[0].p50 if isinstance(value[0], Spread) else value[0]


def _seconds(call: Call, number: int) -> float:
    start = time.perf_counter()
    call(number)
    return time.perf_counter() - start


def _first_line(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:200]
