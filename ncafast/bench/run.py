"""`ncafast bench`: every chosen case with every provider, printed as it comes and appended to the results."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ncafast import backends
from ncafast.bench import machine, mine, report, results
from ncafast.bench.case import Case, Size
from ncafast.bench.cases import RANKS, select
from ncafast.bench.cax import Cax
from ncafast.bench.ceilings import Ceilings
from ncafast.bench.foreign import NcaLab, OctreeKernel
from ncafast.bench.measure import Measurement, Outcome
from ncafast.bench.options import Options, parse
from ncafast.bench.providers import Compiled, CompiledMax, Eager, Fused, Provider, Rounded
from ncafast.bench.ranks import Ranks
from ncafast.bench.results import Row
from ncafast.bench.tiled import Tiled
from ncafast.measuring.progress import Progress, Say

_BUSY = 0.5  # load per core before the start, above which times are not to be trusted


@dataclass(frozen=True)
class Run:
    """What all rows of one run share."""

    date: str
    revision: str
    device: str
    threads: str
    size: str
    rounds: str
    versions: str


def main(words: Sequence[str]) -> int:
    """Run the benchmark with command line words. Returns 1 when a parity check failed, a figure was above
    the machine's peak, or nothing could be measured."""
    return run(parse(words))


def run(options: Options) -> int:
    """Run the benchmark. Returns as `main`."""
    with _threads(options.threads):
        if options.mine is None or mine.drop_in_of(options.mine, options.drop_in) is not None:
            return _run(options)
        mine.accelerated(options.mine, options.mine_shape, options.mine_steps, options.mine_args, options.device)
        return 0


def providers(options: Options) -> list[Provider]:
    """Every provider that was asked for; "ncafast" stands for the backend that NCAFAST_BACKEND names, else for all.

    Where none was asked for, the reference backend takes part only if it is the only one: it is the definition, and
    nobody's choice beside a faster one.

    Raises:
        ValueError: an unknown name.
    """
    fused = [Fused(name) for name in backends.names()]
    fused += [Fused(name, "sqrt") for name in backends.names() if name != "reference"]
    found: list[Provider] = [Eager(), Compiled(), CompiledMax(), *fused]
    found.append(Rounded())
    found += [Tiled(name) for name in backends.names() if name != "reference"]
    found += [Ranks("cpu", count) for count in RANKS]
    found += [Cax(), NcaLab(options.ncalab), OctreeKernel(options.octreenca)]
    if not options.provider:
        faster = len(backends.available()) > 1
        found = [provider for provider in found if not provider.by_name_only]
        return [provider for provider in found if not (faster and provider.name == "ncafast:reference")]
    known = {provider.name for provider in found} | {"ncafast"}
    unknown = [name for name in options.provider if name not in known]
    if unknown:
        raise ValueError(f"provider={unknown[0]!r} is not known: choose from {', '.join(sorted(known))}")
    wanted, only = set(options.provider), os.environ.get("NCAFAST_BACKEND")
    if only and "ncafast" in wanted:
        wanted = wanted - {"ncafast"} | {f"ncafast:{only}", f"ncafast:{only}:sqrt"}
    return [p for p in found if p.name in wanted or (p.name.split(":")[0] in wanted and not p.by_name_only)]


def _run(options: Options) -> int:
    cases = _cases(options)
    asked = providers(options)
    _check_modes(cases, asked, options)
    shared = Run(
        machine.now(),
        machine.revision(),
        machine.device_name(options.device),
        str(options.threads),
        options.size,
        str(options.rounds),
        machine.versions(),
    )
    path = options.output / f"{machine.slug(shared.device)}.csv"
    _check_out(path, options)
    busy = machine.load()
    print(report.heading(shared.device, shared.threads, shared.rounds, shared.versions))
    if busy is not None and busy > _BUSY * machine.usable_cores():
        print(report.warning(f"others keep this machine busy (load {busy:.1f}): the times below will be too long\n"))
    ceilings = Ceilings(options.device)
    wrong: list[str] = []
    above: list[str] = []
    measured = False
    said: set[tuple[str, str]] = set()
    for number, case in enumerate(cases):
        size = case.sizes[options.size]
        print(report.title(case, size), flush=True)
        try:
            with Progress() as say:
                outcomes = _measure(case, size, asked, options, ceilings, say)
        except KeyboardInterrupt:
            print(report.stopped(path, number, len(cases), case.name), file=sys.stderr)
            raise
        print(report.table(outcomes, said), flush=True)
        results.append(path, rows(shared, case, size, outcomes))
        measured |= any(map(_measured, outcomes))
        wrong += [f"{case.name} {outcome.provider}" for outcome in outcomes if outcome.wrong]
        above += [f"{case.name} {outcome.provider}" for outcome in outcomes if outcome.above_peak]
    results.append(path, _surroundings(shared, busy))
    print(report.ending(path, wrong, above))
    if not measured and not wrong:
        print(report.warning("nothing was measured: no provider could run; the reasons are above"))
    return 1 if wrong or above or not measured else 0


def _measured(outcome: Outcome) -> bool:
    there = outcome.absent is None and outcome.wrong is None
    return there and bool(outcome.values) and outcome.provider != results.MACHINE


def _check_modes(cases: Sequence[Case], asked: Sequence[Provider], options: Options) -> None:
    """Raise ValueError where no case has a mode that was asked for with a provider that has it."""
    wanted = set(options.mode)
    if any(wanted & set(case.modes) & set(p.modes) for case in cases for p in _chosen(case, asked)):
        return
    has = "; ".join(f"{case.name} has {', '.join(case.modes)}" for case in cases)
    raise ValueError(f"--mode {' '.join(options.mode)}: no chosen case has this with a chosen provider ({has})")


def _check_out(path: Path, options: Options) -> None:
    """Raise ValueError before anything is measured if the results cannot be written, or would go into another file."""
    try:
        if options.overwrite and path.is_file() and not results.is_results(path):
            path.unlink()
        results.append(path, ())
    except results.NotResults as error:
        raise ValueError(f"{error}; give another folder with --output, or --overwrite to replace it") from None
    except OSError as error:
        raise ValueError(
            f"--output {options.output}: cannot be written ({error.strerror}); give another folder"
        ) from None


def _chosen(case: Case, asked: Sequence[Provider]) -> list[Provider]:
    return [p for p in asked if case.providers is None or p.name in case.providers]


def _cases(options: Options) -> list[Case]:
    if options.mine is None:
        return select(options.case)
    drop_in = mine.drop_in_of(options.mine, options.drop_in)
    assert drop_in is not None
    return [mine.case(options.mine, drop_in, options.mine_shape, options.mine_steps, options.mine_args)]


def _measure(
    case: Case, size: Size, asked: Sequence[Provider], options: Options, ceilings: Ceilings, say: Say
) -> list[Outcome]:
    measurement = Measurement(case, size, _chosen(case, asked), options.device, ceilings, say)
    try:
        return measurement.run([mode for mode in case.modes if mode in options.mode], options.rounds)
    finally:
        measurement.close()


def rows(shared: Run, case: Case, size: Size, outcomes: Iterable[Outcome]) -> Iterator[Row]:
    """The outcomes as rows. What is wrong or absent has one row that says so."""
    common = dataclasses.asdict(shared)
    for outcome in outcomes:
        where = {**common, "case": case.name, "shape": str(size), "provider": outcome.provider, "mode": outcome.mode}
        where["rounds"] = str(outcome.rounds or shared.rounds)
        if outcome.absent is not None:
            yield Row(**where, metric=results.ABSENT, note=outcome.absent)
        if outcome.wrong is not None:
            yield Row(**where, metric=results.WRONG, note=outcome.wrong)
        for metric, (value, unit) in outcome.values.items():
            yield Row(**where, metric=metric, unit=unit, note=outcome.note, **results.figures(value))


def _surroundings(shared: Run, busy: float | None) -> Iterator[Row]:
    """The processor's clock at the end, and how busy the machine was before the start."""
    where = {**dataclasses.asdict(shared), "case": "", "shape": "", "provider": results.MACHINE, "mode": ""}
    for metric, unit, value in (("clock", "MHz", machine.clock_mhz()), ("load", "processes", busy)):
        if value is not None:
            yield Row(**where, metric=metric, unit=unit, **results.figures(value))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """torch's thread count for the time being."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
