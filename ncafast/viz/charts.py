"""Charts of a training: numbers by epoch, in panels side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncafast.viz.figures import Array, pixels_of

History = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Panel:
    """One chart of `curves`.

    Attributes:
        title: above it.
        lines: column of the history -> (label, colour). A label of None gives no entry in the legend.
        scale: of the vertical axis, for `matplotlib.axes.Axes.set`: yscale, ylim.
        marks_best: whether a vertical line marks the best epoch.
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
    figure = Figure(figsize=(9.5, 3.8), dpi=110)
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for column, (label, colour) in panel.lines.items():
            rows = [row for row in history if row.get(column) is not None]
            if rows:
                numbers = [row["epoch"] for row in rows], [row[column] for row in rows]
                axes.plot(*numbers, marker="o", color=colour, label=label)
        if panel.marks_best and best_epoch and axes.lines:
            axes.axvline(best_epoch, color="0.6", linestyle=":", label="best")
        axes.set(title=panel.title, xlabel="epoch", **panel.scale)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9, loc=panel.legend)
        axes.xaxis.get_major_locator().set_params(integer=True)
        plain(axes)
    figure.tight_layout()
    return pixels_of(figure)


def plain(axes: Axes) -> None:
    """Leave a light grid and two of the four edges."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
