"""Outlines of masks over an image, and a probability over it, as pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ncafast.utils.texts import printable
from ncafast.viz.figures import Array, pixels_of

TRUTH = "#35d07f"
PREDICTION = "#ff5d8f"
_FINE = 1024  # points along the longer side, twice the pixels of a panel
CLASS_COLOURS = ("#ff5d8f", "#4cc9f0", "#ffd166", "#b388eb", "#80ed99", "#f8961e", "#f72585", "#90e0ef")

Show = Callable[[Axes], None]
"""Shows the image in a panel; its rows go down, or up with origin="lower"."""


def contours(
    show: Show,
    prediction: Array,  # [rows, columns] class numbers
    truth: Array | None = None,  # [rows, columns] class numbers
    *,
    names: Sequence[str] = ("label",),
    tall: float = 1.0,
    title: str = "",
) -> Array:
    """Two panels, the image alone and with contours, as [height, width, 3] uint8.

    Prediction is dashed and truth solid; with one class they differ in colour, with several each class has its own.
    ``names`` name the classes in the legend; ``tall`` is the image's height over its width.
    """
    panel = 4.6  # inches
    figure = Figure(figsize=(2 * panel + 0.2, panel * min(max(tall, 0.6), 1.6) + 1.0), dpi=110)
    plain, drawn = figure.subplots(1, 2)
    for axes, heading in ((plain, "image"), (drawn, "contours")):
        show(axes)
        axes.set_title(heading, fontsize=10, color="0.35")
    put_legend(figure, draw_labels(drawn, prediction, truth, names))
    figure.suptitle(printable(title), fontsize=12, parse_math=False)  # it holds a file's name
    figure.subplots_adjust(0.02, 0.13, 0.98, 0.86, wspace=0.04)
    return pixels_of(figure)


def draw_labels(axes: Axes, prediction: Array, truth: Array | None, names: Sequence[str]) -> list[Line2D]:
    """The outlines of every class, as `contours` draws them; lines for the legend."""
    handles = []
    several = len(names) > 1
    for number, name in enumerate(names, start=1):
        class_colour = CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]
        for kind, labels, colour in (("truth", truth, TRUTH), ("prediction", prediction, PREDICTION)):
            if labels is None:
                continue
            line = Line2D([], [], color=class_colour if several else colour, linewidth=2)
            line.set_linestyle("-" if kind == "truth" else "--")
            line.set_label(f"{legend_text(name)}: {kind}" if several else kind)
            outline(axes, labels == number, line)
            handles.append(line)
    return handles


def put_legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Below the panels."""
    figure.legend(handles=handles, loc="lower center", ncols=min(4, len(handles)), frameon=False, fontsize=10)


def legend_text(name: str) -> str:
    """A label's name as matplotlib's legend shows it: no formula, and no leading underscore, which would hide it."""
    return (name.lstrip("_") or "label").replace("$", r"\$")


def outline(axes: Axes, mask: Array, line: Line2D) -> None:
    """The outline of a mask [rows, columns] along its pixels' edges, in the colour and style of a line."""
    if not mask.any():
        return
    parts = max(2, min(8, _FINE // max(mask.shape)))  # of a pixel's side; corners are cut off by half a part
    fine = np.pad(mask, 1).repeat(parts, 0).repeat(parts, 1).astype(np.float32)
    x = (np.arange(fine.shape[1]) + 0.5) / parts - 1.5
    y = (np.arange(fine.shape[0]) + 0.5) / parts - 1.5
    width, style = 0.9 * line.get_linewidth(), [line.get_linestyle()]
    axes.contour(x, y, fine, levels=[0.5], colors=[line.get_color()], linestyles=style, linewidths=width)


def probability(show: Show, plane: Array, text: str, tall: float, **options: Any) -> Array:
    """A probability [rows, columns], 0 to 1, over an image, with its scale and a line of text: [height, width, 3]
    uint8. ``options`` are those of `matplotlib.axes.Axes.imshow` that the image is shown with."""
    inner, head = min(max(3.43 * tall, 2.0), 6.0), 0.45 if text else 0.12  # inches
    whole = inner + head + 0.12
    figure = Figure(figsize=(4.4, whole), dpi=90)
    axes = figure.add_axes((0.03, 0.12 / whole, 0.78, inner / whole))
    show(axes)
    strength = 0.8 * np.clip(plane, 0, 1)  # no probability, no colour
    axes.imshow(plane, "plasma", vmin=0, vmax=1, alpha=strength, **options)
    scale, place = (
        ScalarMappable(Normalize(0, 1), "plasma"),
        (0.84, (0.12 + 0.1 * inner) / whole, 0.035, 0.8 * inner / whole),
    )
    bar = figure.colorbar(scale, cax=figure.add_axes(place), ticks=[0, 0.5, 1])
    bar.set_label("probability", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    figure.text(0.42, 1 - 0.5 * head / whole, text, ha="center", va="center", fontsize=11, parse_math=False)
    return pixels_of(figure)
