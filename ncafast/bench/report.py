"""The tables that `ncafast bench` prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ncafast.bench.case import Case, Size
from ncafast.bench.chosen import Chosen
from ncafast.bench.measure import Outcome
from ncafast.bench.modes import TRAIN
from ncafast.bench.results import MACHINE
from ncafast.measuring.timing import Spread

_HEAD = ("", "ms/step", "p20-p80", "x eager", "GFLOP/s", "of peak", "kept B", "peak MiB", "error", "compile s")


def heading(device: str, threads: str, rounds: str, versions: str) -> str:
    """What the numbers belong to."""
    return (
        f"{device}, {threads} threads\n{versions}\n"
        f"medians of {rounds} interleaved rounds; kept: bytes per cell and step kept for backward; "
        "error: relative, against float64, of the gradients in training, else of the state\n"
    )


def title(case: Case, size: Size) -> str:
    """One line before a case's table."""
    return f"{case.name}: {case.title} ({size})"


def table(outcomes: Sequence[Outcome], said: set[tuple[str, str]]) -> str:
    """A block per mode, a line per provider; in red what failed its parity check.

    `said` holds (provider, why it was not measured) of tables before; the same is not said twice, and is added.
    """
    lines = []
    for mode in dict.fromkeys(outcome.mode for outcome in outcomes):
        here = [outcome for outcome in outcomes if outcome.mode == mode]
        lines.append(_line((f"  {mode}", *_HEAD[1:])))
        lines += [_ceilings(outcome) for outcome in here if outcome.provider == MACHINE]
        eager = next((_time(outcome) for outcome in here if outcome.provider == "eager"), None)
        for outcome in here:
            reason = (outcome.provider, outcome.absent or "")
            if outcome.provider != MACHINE and reason not in said:
                lines.append(_provider(outcome, eager))
            if outcome.absent is not None:
                said.add(reason)
    return "\n".join([*lines, ""])


def ending(path: Path, wrong: Sequence[str], above: Sequence[str]) -> str:
    """Where the results are, what is wrong, and what was measured as faster than the machine can be."""
    text = f"results: {path}"
    if wrong:
        text += "\n" + _red(f"parity check failed, so not timed: {', '.join(dict.fromkeys(wrong))}")
    if above:
        text += "\n" + _red(f"above 100 % of the peak, so left out: {', '.join(dict.fromkeys(above))}; measure again")
    return text


def stopped(path: Path, done: int, cases: int, case: str) -> str:
    """What the results hold where a run was stopped."""
    return f"{path} has the rows of the {done} of {cases} cases that were measured, and none of {case}"


def summary(chosen: Chosen) -> str:
    """A short table of what the results hold: a line per case and mode."""
    lines = [f"{'case':<18}{'mode':<11}{'eager':>9}{'compile':>9}{'ncafast':>9}{'x eager':>9}{'x compile':>10}  by"]
    for case in chosen.cases():
        for mode in chosen.modes(case):
            best = chosen.fastest(case, mode)
            times = [chosen.value(case, who, mode, "time") for who in ("eager", "compile", best or "")]
            ratios = [chosen.speedup(case, best or "", mode, over) for over in ("eager", "compile")]
            cells = ["-" if value is None else short(value) for value in (*times, *ratios)]
            lines.append(f"{case:<18}{mode:<11}" + "".join(f"{cell:>9}" for cell in cells) + f"   {best or '-'}")
    lines += [f"{who}: {why} ({', '.join(cases)})" for (who, why), cases in chosen.absent().items()]
    return "\n".join(lines)


def _provider(outcome: Outcome, eager: float | None) -> str:
    name = f"    {outcome.provider}"
    if outcome.wrong is not None:
        return _red(f"{name:<26}PARITY FAILED, not timed: {outcome.wrong}")
    if outcome.absent is not None:
        return f"{name:<26}not measured: {outcome.absent}"
    taken = _time(outcome)
    ratio = "" if taken is None or eager is None else f"{eager / taken:.2f}"
    cells = (
        name,
        _figure(outcome, "time"),
        _range(outcome, "time"),
        ratio,
        _figure(outcome, "arithmetic"),
        _figure(outcome, "share", "%"),
        _figure(outcome, "kept"),
        _figure(outcome, "peak"),
        _figure(outcome, "gradient error" if outcome.mode == TRAIN else "error"),
        _figure(outcome, "compile"),
    )
    return _line(cells) + (f"  ({outcome.note})" if outcome.note else "")


def _line(cells: Sequence[str]) -> str:
    widths = (26, 9, 15, 9, 9, 9, 9, 9, 9, 10)
    first, *others = cells
    return f"{first:<{widths[0]}}" + "".join(f"{cell:>{w}}" for cell, w in zip(others, widths[1:], strict=True))


def _figure(outcome: Outcome, metric: str, unit: str = "") -> str:
    if metric not in outcome.values:
        return ""
    value = outcome.values[metric][0]
    number = value.p50 if isinstance(value, Spread) else value
    return short(number) + unit


def short(number: float) -> str:
    """Three digits: 0.123, 12.3, 1230, 1.2e-07."""
    if number == 0:
        return "0"
    if abs(number) < 1e-3:
        return f"{number:.1e}"
    if abs(number) >= 100:
        return f"{number:.0f}"
    return f"{number:.3g}"


def _range(outcome: Outcome, metric: str) -> str:
    value = outcome.values.get(metric, (None,))[0]
    return f"{short(value.p20)}-{short(value.p80)}" if isinstance(value, Spread) else ""


def _time(outcome: Outcome) -> float | None:
    value = outcome.values.get("time", (None,))[0]
    return value.p50 if isinstance(value, Spread) else None


def _ceilings(outcome: Outcome) -> str:
    ceilings = outcome.values.items()
    return f"    {MACHINE}: " + ", ".join(f"{name} {_figure(outcome, name)} {unit}" for name, (_, unit) in ceilings)


def warning(text: str) -> str:
    """A text that must not be overlooked."""
    return _red(text)


def _red(text: str) -> str:
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return f"\033[31m{text}\033[0m" if colour else text
