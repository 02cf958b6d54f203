"""The README's section on performance, generated from the results so that it cannot disagree with them."""

from __future__ import annotations

from pathlib import Path

from ncafast.bench import results
from ncafast.bench.case import FORWARD, INFERENCE, TRAIN
from ncafast.bench.cases import CASES
from ncafast.bench.chosen import Chosen, files
from ncafast.bench.plots import picture_path
from ncafast.bench.report import short

START, END = "<!-- benchmark start -->", "<!-- benchmark end -->"
_PICTURES = {
    "speedup": "How many times as fast as plain PyTorch",
    "memory": "Memory kept for backward against steps",
    "scaling": "Cost per cell against grid size",
    "roofline": "Rates against the machine's ceilings",
}
_LEAST_STEPS = 4  # the first state is the caller's own, so that of a single step nothing at all is kept
_TITLES = {case.name: case.title for case in CASES}


def section(folder: Path, root: Path) -> str:
    """The text between the markers, from the results in `folder`; picture paths are relative to `root`.

    The device measured last is shown in full, the others by a line and their pictures' and results' places.
    """
    found = [(path, Chosen(results.read(path))) for path in files(folder)]
    measured = [(path, chosen) for path, chosen in found if chosen.cases()]
    measured.sort(key=lambda item: max(row.date for row in item[1].rows), reverse=True)
    parts = [_device(path, chosen, root) for path, chosen in measured[:1]]
    parts += [_earlier(path, chosen, root) for path, chosen in measured[1:]]
    if not parts:
        parts = ["Nothing has been measured with this version yet."]
    if not any(row.mode and "NVIDIA" in row.device for _, chosen in found for row in chosen.rows):
        parts.append("Not measured: any GPU.")
    return "\n\n".join(parts)


def update(readme: Path, folder: Path) -> bool:
    """Write the section into the README. Returns whether anything changed.

    Raises:
        ValueError: the README has no markers.
    """
    text = readme.read_text(encoding="utf-8")
    if text.count(START) != 1 or text.count(END) != 1:
        raise ValueError(f"{readme} must hold {START} and {END} once each")
    before, rest = text.split(START)
    _, after = rest.split(END)
    new = f"{before}{START}\n{section(folder, readme.parent)}\n{END}{after}"
    readme.write_text(new, encoding="utf-8")
    return new != text


def _device(path: Path, chosen: Chosen, root: Path) -> str:
    first, last = (pick(row.date for row in chosen.rows)[:10] for pick in (min, max))
    row = max(chosen.rows, key=lambda row: row.date)
    revisions = ", ".join(dict.fromkeys(f"`{r.revision or 'no checkout'}`" for r in chosen.rows))
    head = (
        f"Measured {first if first == last else f'{first} to {last}'} on {row.device}, {row.threads} threads, float32, "
        f"revision {revisions} ({row.versions}). Medians of {_rounds(chosen)} rounds in which all took turns, in a "
        "process that had trained before; every row passed a parity check against float64 first."
    )
    lines = [
        "| ms per step | mode | plain PyTorch | torch.compile | CAX | ncafast | x PyTorch | x compile | of floor |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            _line(chosen, case, mode)
            for case in chosen.cases()
            for mode in (FORWARD, TRAIN, INFERENCE)
            if mode in chosen.modes(case)
        ),
    ]
    note = (
        '"train" is forward, backward and Adam. "of floor" is the time that the arithmetic which has to be done '
        "would take, as a share of ncafast's, at the rate of a large matmul measured in the same rounds (median "
        f"{_middle(chosen.ceiling('matmul'))} GFLOP/s); above 100 % the matmul was disturbed more than ncafast."
    )
    pictures = "\n".join(
        f"![{title}]({picture_path(path, name).relative_to(root).as_posix()})"
        for name, title in _PICTURES.items()
        if picture_path(path, name).exists()
    )
    return "\n\n".join(
        part for part in (head, "\n".join(lines), note, _kept(chosen), pictures, _absent(chosen)) if part
    )


def _earlier(path: Path, chosen: Chosen, root: Path) -> str:
    """Where the results of a device that was not measured last are, and how they compare."""
    row = max(chosen.rows, key=lambda row: row.date)
    ratios = []
    for case in chosen.cases():
        best = chosen.fastest(case, TRAIN)
        for over in ("eager", "compile"):
            ratio = None if best is None else chosen.speedup(case, best, TRAIN, over)
            ratios += [] if ratio is None else [ratio]
    span = ""
    if ratios:
        low, high = short(min(ratios)), short(max(ratios))
        span = f": training {low} to {high} times as fast as plain PyTorch or torch.compile"
    picture = picture_path(path, "speedup")
    places = [f"[results]({path.relative_to(root).as_posix()})"]
    if picture.exists():
        places.append(f"[picture]({picture.relative_to(root).as_posix()})")
    return f"Also measured, {row.date[:10]} on {row.device}, revision `{row.revision}`{span} ({', '.join(places)})."


def _line(chosen: Chosen, case: str, mode: str) -> str:
    """A row of the table: milliseconds per step, ncafast's ratios and its share of the floor."""
    best = chosen.fastest(case, mode) or "ncafast"
    shape = next(row.shape for row in chosen.rows if row.case == case)
    times = [_cell(chosen.value(case, provider, mode, "time")) for provider in ("eager", "compile", "cax", best)]
    ratios = [_cell(chosen.speedup(case, best, mode, over)) for over in ("eager", "compile")]
    share = chosen.value(case, best, mode, "share")
    floor = "" if share is None else f"{share:.0f} %"
    return f"| {_TITLES.get(case, case)} ({shape}) | {mode} | " + " | ".join([*times, *ratios, floor]) + " |"


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
        f"{most[0]:.0f} times less than plain PyTorch ({most[1]:.0f} against {most[2]:.0f} bytes at best), with "
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
