"""Pictures of the results: bars of speed-up, memory against steps, cost per cell against grid size, a roofline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ncafast.bench import results
from ncafast.bench.cases import CASES, SWEEPS
from ncafast.bench.chosen import Chosen, files
from ncafast.bench.modes import FORWARD, INFERENCE, MEMORY, SIZES, TRAIN

_COLOURS = {"eager": "0.6", "compile": "tab:orange", "cax": "tab:green", "ncafast": "tab:blue"}
_TITLES = {"eager": "plain PyTorch", "compile": "torch.compile", "cax": "CAX (JAX)", "ncafast": "ncafast"}


def draw(folder: Path) -> list[Path]:
    """Draw what the files of results in `folder` hold, as PNG beside them. Returns the pictures' paths.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: there are no results.
    """
    found = files(folder)
    if not found:
        raise ValueError(f"there are no results in {folder}; `ncafast bench` writes some")
    drawn = []
    for path in found:
        chosen = Chosen(results.read(path))
        pictures = {"speedup": _speedup, "memory": _memory, "scaling": _scaling, "roofline": _roofline}
        for name, picture in pictures.items():
            figure = picture(chosen)
            if figure is not None:
                drawn.append(picture_path(path, name))
                _save(figure, drawn[-1])
    return drawn


def picture_path(results_file: Path, name: str) -> Path:
    """Where the picture of that name of one device's results is."""
    return results_file.with_name(f"{results_file.stem}-{name}.png")


def _axes(width: float, height: float, columns: int = 1) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _provider(chosen: Chosen, label: str, case: str, mode: str) -> str:
    return (chosen.fastest(case, mode) or "ncafast:cpu") if label == "ncafast" else label


def _speedup(chosen: Chosen) -> Any:
    """How many times as fast as plain PyTorch."""
    cases = [name for name in chosen.cases() if {FORWARD, TRAIN} <= set(chosen.modes(name))]
    if not cases:
        return None
    figure, axes = _axes(10, 0.9 + 0.45 * len(cases), 2)
    for axis, mode in zip(axes, (FORWARD, TRAIN), strict=True):
        for number, label in enumerate(("compile", "cax", "ncafast")):
            points = [
                (place, ratio)
                for place, case in enumerate(cases)
                if (ratio := chosen.speedup(case, _provider(chosen, label, case, mode), mode)) is not None
            ]
            if not points:
                continue
            places, ratios = zip(*points, strict=True)
            bars = axis.barh(
                [place + 0.27 * (number - 1) for place in places], ratios, 0.25,
                color=_COLOURS[label], label=_TITLES[label],
            )  # fmt: skip
            axis.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
        axis.axvline(1, color="0.4", linewidth=0.8)
        axis.set(title=mode, xlabel="times as fast as plain PyTorch", yticks=range(len(cases)), yticklabels=cases)
        axis.invert_yaxis()
    axes[1].set_yticklabels([])
    axes[0].legend(fontsize=8)
    return figure


def _memory(chosen: Chosen) -> Any:
    """MiB kept for backward against the number of steps."""
    figure, (axis,) = _axes(5.5, 3.6)
    lines = 0
    labels = {"eager": "plain PyTorch", "ncafast:cpu": "ncafast", "ncafast:cpu:sqrt": 'ncafast, memory="sqrt"'}
    for provider, label in labels.items():
        points = []
        for case in SWEEPS["steps"]:
            size = case.sizes[SIZES[0]]
            kept = chosen.value(case.name, provider, MEMORY, "kept")
            if kept is not None:
                points.append((size.steps, kept * size.cells * size.steps / 2**20))
        if points:
            lines += 1
            axis.loglog(*zip(*points, strict=True), "o-", label=label, base=2)
    if not lines:
        return None
    axis.set(xlabel="steps", ylabel="MiB kept for backward", title=SWEEPS["steps"][0].title.rsplit(",", 1)[0])
    axis.legend(fontsize=8)
    return figure


def _scaling(chosen: Chosen) -> Any:
    """Nanoseconds per cell and step against the side of the grid."""
    figure, (axis,) = _axes(5.5, 3.6)
    lines = 0
    for provider, label in {"eager": "plain PyTorch", "ncafast:cpu": "ncafast"}.items():
        points = []
        for case in SWEEPS["grid"]:
            size = case.sizes[SIZES[0]]
            time = chosen.value(case.name, provider, INFERENCE, "time")
            if time is not None:
                points.append((size.grid[0], time * 1e6 / size.cells))
        if points:
            lines += 1
            axis.loglog(*zip(*points, strict=True), "o-", label=label, base=2)
    if not lines:
        return None
    axis.set(xlabel="side of the grid", ylabel="ns per cell and step", title="inference, C16 H64, 3x3, no norm")
    axis.set_yscale("log", base=10)
    axis.legend(fontsize=8)
    return figure


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _roofline(chosen: Chosen) -> Any:
    """Rates against operations per byte, below the ceilings that were measured in the same runs."""
    fma, copy = chosen.fma(), chosen.ceiling("copy")
    if not fma or not copy:
        return None
    figure, (axis,) = _axes(6.5, 4.2)
    for label in ("eager", "compile", "ncafast"):
        points = []
        for case in (case.name for case in CASES):
            for mode in (FORWARD, TRAIN, INFERENCE):
                provider = _provider(chosen, label, case, mode)
                rate, traffic = (chosen.value(case, provider, mode, metric) for metric in ("arithmetic", "traffic"))
                if rate is not None and traffic:
                    points.append((rate / traffic, rate))
        if points:
            axis.loglog(*zip(*points, strict=True), "o", color=_COLOURS[label], label=_TITLES[label], alpha=0.7)
    peak, bandwidth, matmul = (_middle(values) for values in (fma, copy, chosen.ceiling("matmul")))
    ridge = peak / bandwidth
    axis.plot([ridge / 8, ridge, 1000], [peak / 8, peak, peak], color="0.3", linewidth=1)
    axis.annotate(f"FMA peak {peak:.0f} GFLOP/s", (1000, peak), ha="right", va="bottom", fontsize=8)
    axis.axhline(matmul, color="0.3", linewidth=0.8, linestyle=":")
    axis.annotate(f"torch's large matmul {matmul:.0f}", (ridge / 8, matmul), va="bottom", fontsize=8)
    axis.annotate(f"copy {bandwidth:.1f} GB/s", (ridge / 8, peak / 8), va="top", fontsize=8)
    axis.set(xlabel="operations per byte that has to move", ylabel="GFLOP/s of the work that has to be done")
    axis.legend(fontsize=8)
    return figure
