"""Charts: numbers of a training by epoch, in panels side by side, and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ncafast.utils.texts import printable
from ncafast.viz.figures import Array, pixels_of

History = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Panel:
    """One chart of `curves`.

    Attributes:
        title: above it.
        lines: column of the history -> (label, colour). A label of None gives no entry in the legend.
        scale: of the vertical axis, for `matplotlib.axes.Axes.set`: yscale, ylim.
        marks_best: whether a star marks the first line at the best epoch; its value is in the legend.
        legend: where the legend lies, for matplotlib.
    """

    title: str
    lines: Mapping[str, tuple[str | None, str]]
    scale: Mapping[str, Any] = field(default_factory=dict)
    marks_best: bool = False
    legend: str = "best"


def training_loss(column: str = "loss", colour: str = "#3a6ea5") -> Panel:
    """The panel of a training loss, on a logarithmic scale."""
    return Panel("training loss", {column: (None, colour)}, {"yscale": "log"})


def curves(history: History, panels: Sequence[Panel], best_epoch: int | None = None) -> Array:
    """Columns of a run's history by epoch, as [height, width, 3] uint8. Epochs without a number are left out."""
    figure = Figure(figsize=(4.75 * len(panels), 3.8), dpi=110)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for column, (label, colour) in panel.lines.items():
            rows = [row for row in history if row.get(column) is not None]
            if rows:
                numbers = [row["epoch"] for row in rows], [row[column] for row in rows]
                axes.plot(*numbers, marker="o", color=colour, label=label)
        if panel.marks_best:
            _mark_best(axes, history, next(iter(panel.lines)), best_epoch)
        axes.set(title=panel.title, xlabel="epoch", **panel.scale)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9, loc=panel.legend)
        axes.xaxis.get_major_locator().set_params(integer=True)
        plain(axes)
    figure.tight_layout()
    return pixels_of(figure)


def confusion(matrix: Tensor, classes: Sequence[str], title: str = "", found: str = "found") -> Array:
    """A confusion matrix as [height, width, 3] uint8, coloured by share of the row.

    Args:
        matrix: counts [K, K], rows true, columns found.
        classes: their names, in the order of the rows.
        title: above it.
        found: what the columns are called.
    """
    counts = matrix.double().cpu().numpy()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.6 + 0.52 * len(classes)
    figure = Figure(figsize=(side, side), dpi=110)
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [printable(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(xlabel=found, ylabel="true")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if share[row, column] > 0.5 else "0.25"
            axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_title(printable(title), fontsize=11, parse_math=False)
    figure.tight_layout()
    return pixels_of(figure)


def plain(axes: Axes) -> None:
    """Leave a light grid and two of the four edges."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _mark_best(axes: Axes, history: History, column: str, epoch: int | None) -> None:
    for row in history:
        if row["epoch"] == epoch and row.get(column) is not None:
            label = f"best: {row[column]:.3g}"
            axes.plot(row["epoch"], row[column], "*", markersize=15, color="#f8961e", zorder=5, label=label)
