"""The README's section on performance and docs/benchmarks.md, generated so that they agree with the results."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from bench.plots import picture_path
from ncafast.bench import results
from ncafast.bench.cases import CASES
from ncafast.bench.chosen import Chosen, files
from ncafast.bench.modes import FORWARD, INFERENCE, TRAIN
from ncafast.bench.report import short
from ncafast.bench.results import PEAK_SHARE

START, END = "<!-- benchmark start -->", "<!-- benchmark end -->"
# What the README shows: the training of every published model. texture-c128 has the smallest gain of all cases.
DECISIVE = (
    "maxnca-bn",
    "med-coarse",
    "med-fine",
    "3d-k3",
    "texture",
    "texture-c128",
    "growing",
    "selfclass-mnist",
)
_PICTURES = {
    "speedup": "How many times as fast as plain PyTorch",
    "memory": "Memory kept for backward against steps",
    "scaling": "Cost per cell against grid size",
    "roofline": "Rates against the machine's ceilings",
}
_LEAST_STEPS = 4  # the first state is the caller's own, so that of a single step nothing at all is kept
_TITLES = {case.name: case.title for case in CASES}


def section(folder: Path, home: Path) -> str:
    """The README's text between the markers: eight rows, and where the others are.

    Args:
        folder: the results; the device measured last is shown, the others have a line each.
        home: folder of the text, from which links start.
    """
    return _text(folder, home, _short)


def page(folder: Path, home: Path) -> str:
    """The text of docs/benchmarks.md between the markers: every row. Arguments as those of `section`."""
    return _text(folder, home, _full)


def update(document: Path, text: str) -> bool:
    """Write the text between the document's markers. Returns whether anything changed.

    Raises:
        ValueError: the document has no markers.
    """
    old = document.read_text(encoding="utf-8")
    if old.count(START) != 1 or old.count(END) != 1:
        raise ValueError(f"{document} must hold {START} and {END} once each")
    before, rest = old.split(START)
    _, after = rest.split(END)
    new = f"{before}{START}\n{text}\n{END}{after}"
    document.write_text(new, encoding="utf-8")
    return new != old


def _text(folder: Path, home: Path, device: Callable[[Path, Chosen, Path], str]) -> str:
    found = [(path, Chosen(results.read(path))) for path in files(folder)]
    measured = [(path, chosen) for path, chosen in found if chosen.cases()]
    measured.sort(key=lambda item: max(row.date for row in item[1].rows), reverse=True)
    parts = [device(path, chosen, home) for path, chosen in measured[:1]]
    if not parts:
        parts = ["Nothing has been measured with this version yet."]
    others = [_earlier(path, chosen, home) for path, chosen in measured[1:]]
    if not any(row.mode and "NVIDIA" in row.device for _, chosen in found for row in chosen.rows):
        others.append("Not measured: any GPU.")
    return "\n\n".join([*parts, "\n".join(others)]).rstrip()


def _short(path: Path, chosen: Chosen, home: Path) -> str:
    table = _table(chosen, [(case, TRAIN) for case in DECISIVE if TRAIN in chosen.modes(case)])
    span = _span(chosen, named=True)
    where = f"[All cases](docs/benchmarks.md){f': {span}' if span else ''}. {_kept(chosen)}".rstrip()
    parts = (_head(chosen), table, _note(chosen), where, _picture(path, "speedup", home))
    return "\n\n".join(part for part in parts if part)


def _full(path: Path, chosen: Chosen, home: Path) -> str:
    modes = (FORWARD, TRAIN, INFERENCE)
    table = _table(chosen, [(case, mode) for case in chosen.cases() for mode in modes if mode in chosen.modes(case)])
    pictures = "\n".join(filter(None, (_picture(path, name, home) for name in _PICTURES)))
    parts = (_head(chosen), _made_with(chosen), table, _note(chosen), _kept(chosen), pictures, _absent(chosen))
    return "\n\n".join(part for part in parts if part)


def _head(chosen: Chosen) -> str:
    first, last = (pick(row.date for row in chosen.rows)[:10] for pick in (min, max))
    row = max(chosen.rows, key=lambda row: row.date)
    return (
        f"Measured {first if first == last else f'{first} to {last}'} on {row.device}, {row.threads} threads, float32. "
        f"Medians of {_rounds(chosen)} rounds. In each round every implementation ran once, in a process that had "
        "trained before. Every row passed a parity check against float64 first."
    )


def _made_with(chosen: Chosen) -> str:
    row = max(chosen.rows, key=lambda row: row.date)
    revisions = ", ".join(dict.fromkeys(f"`{r.revision or 'no checkout'}`" for r in chosen.rows))
    return f"Revision {revisions} ({row.versions})."


def _table(chosen: Chosen, rows: list[tuple[str, str]]) -> str:
    head = "| ms per step | mode | plain PyTorch | torch.compile | CAX | ncafast | x PyTorch | x compile | of peak |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|---|", *(_line(chosen, *row) for row in rows)])


def _note(chosen: Chosen) -> str:
    text = 'Mode "train" is forward, backward and Adam.'
    fma, matmul = chosen.fma(), chosen.ceiling("matmul")
    if not fma:
        return text
    return (
        f'{text} "of peak" is the rate of the necessary arithmetic (the MLP of fired cells only) as a share of '
        f"what multiply-adds on registers reached in the same rounds, {_middle(fma)} GFLOP/s (torch's large matmul: "
        f"{_middle(matmul)})."
    )


def _picture(path: Path, name: str, home: Path) -> str:
    picture = picture_path(path, name)
    return f"![{_PICTURES[name]}]({_link(picture, home)})" if picture.exists() else ""


def _link(path: Path, home: Path) -> str:
    return Path(os.path.relpath(path, home)).as_posix()


def _span(chosen: Chosen, named: bool = False) -> str:
    """The smallest and the largest gain of training, on request with their cases; or nothing."""
    ratios = []
    for case in chosen.cases():
        best = chosen.fastest(case, TRAIN)
        for over in ("eager", "compile"):
            ratio = None if best is None else chosen.speedup(case, best, TRAIN, over)
            ratios += [] if ratio is None else [(ratio, case)]
    if not ratios:
        return ""
    ends = (min(ratios), max(ratios))
    low, high = (f"{short(ratio)} ({_TITLES.get(case, case)})" if named else short(ratio) for ratio, case in ends)
    return f"training {low} to {high} times as fast as plain PyTorch or torch.compile"


def _earlier(path: Path, chosen: Chosen, home: Path) -> str:
    """Where the results of a device that was not measured last are, and how they compare."""
    row = max(chosen.rows, key=lambda row: row.date)
    span = _span(chosen)
    picture = picture_path(path, "speedup")
    places = [f"[results]({_link(path, home)})"]
    if picture.exists():
        places.append(f"[picture]({_link(picture, home)})")
    gain = f": {span}" if span else ""
    return f"Also measured, {row.date[:10]} on {row.device}, revision `{row.revision}`{gain} ({', '.join(places)})."


def _line(chosen: Chosen, case: str, mode: str) -> str:
    """A row of the table: milliseconds per step, ncafast's ratios and its share of the peak."""
    best = chosen.fastest(case, mode) or "ncafast"
    shape = next(row.shape for row in chosen.rows if row.case == case)
    times = [_cell(chosen.value(case, provider, mode, "time")) for provider in ("eager", "compile", "cax", best)]
    ratios = [_cell(chosen.speedup(case, best, mode, over)) for over in ("eager", "compile")]
    share = chosen.get(case, best, mode, "share")
    of_peak = f"{share.value:.0f} %" if share and share.unit == PEAK_SHARE else ""
    return f"| {_TITLES.get(case, case)} ({shape}) | {mode} | " + " | ".join([*times, *ratios, of_peak]) + " |"


def _cell(value: float | None) -> str:
    return "" if value is None else short(value)


def _rounds(chosen: Chosen) -> str:
    """How many rounds there were, which may differ from run to run."""
    found = sorted({int(row.rounds) for row in chosen.rows if row.rounds})
    return " to ".join(str(count) for count in dict.fromkeys((found[0], found[-1]))) if found else "?"


def _kept(chosen: Chosen) -> str:
    """Bytes kept for backward, as a range over the cases whose rollouts are long enough to speak of a cost per step."""
    found = []
    for case in chosen.cases():
        shape = next(row.shape for row in chosen.rows if row.case == case)
        if int(shape.split()[-2]) < _LEAST_STEPS:
            continue
        best = chosen.fastest(case, TRAIN)
        plain = chosen.value(case, "eager", TRAIN, "kept")
        own = None if best is None else chosen.value(case, best, TRAIN, "kept")
        if plain and own:
            found.append((plain / own, plain, own))
    if not found:
        return ""
    least, most = min(found), max(found)
    return (
        f"Kept for backward per cell and step, in rollouts of {_LEAST_STEPS} steps and more: {least[0]:.0f} to "
        f"{most[0]:.0f} times less than plain PyTorch (at best {most[2]:.0f} bytes instead of {most[1]:.0f}), with "
        'memory="states".'
    )


def _absent(chosen: Chosen) -> str:
    """What was not measured, and why."""
    every = len({row.case for row in chosen.rows})
    lines = [
        f"* {provider}: {reason} ({'every case' if len(cases) == every else ', '.join(cases)})"
        for (provider, reason), cases in sorted(chosen.absent().items())
    ]
    return "Not measured:\n\n" + "\n".join(lines) if lines else ""


def _middle(values: list[float]) -> str:
    return short(sorted(values)[len(values) // 2]) if values else "?"
