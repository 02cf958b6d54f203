"""Pictures of repeated trainings: what every fold came to, and what every option's value came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ncafast.viz.charts import plain
from ncafast.viz.figures import Array, pixels_of

_BLUE, _PINK, _GREY = "#3a6ea5", "#ff5d8f", "0.6"
_WIDTH = 3.2  # inches per option
_WORDS = {"dice": "Dice", "abs_rel": "error / depth"}


def draw_folds(rows: Sequence[dict[str, Any]], name: str) -> Array:
    """One bar per fold, and their mean with a band of one standard deviation: [height, width, 3] uint8.

    `rows` are those of `cross_validate`; `name` is the number to show.
    """
    name = name if name in rows[0] else "loss"  # nothing was measured where nothing is held out
    folds, (mean, spread) = rows[:-2], [row[name] for row in rows[-2:]]
    figure = Figure(figsize=(max(4.0, 0.7 * len(folds) + 2), 3.6), dpi=110)
    axes = figure.add_subplot()
    axes.bar([str(row["fold"]) for row in folds], [row[name] for row in folds], color=_BLUE, width=0.6)
    axes.axhline(mean, color=_PINK, label=f"mean {mean:.3f}, deviation {spread:.3f}")
    axes.axhspan(mean - spread, mean + spread, color=_PINK, alpha=0.15)
    axes.set(xlabel="fold that is held out", ylabel=in_words(name))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)  # above the bars
    figure.tight_layout()
    return pixels_of(figure)


def in_words(name: str) -> str:
    """What a column of a training's history measures, for people."""
    if not name.startswith("val_"):
        return f"training {name}"
    measure = name.removeprefix("val_")
    return f"held-out {_WORDS.get(measure, measure.replace('_', ' '))}"


def draw_grid(rows: Sequence[dict[str, Any]], options: Sequence[str], by: str, lowest: bool) -> Array:
    """A panel per option: every combination as a point over the option's value, a line through the values' means.

    `rows` are those of `search`, best first; the best one is marked. [height, width, 3] uint8.
    """
    figure = Figure(figsize=(max(4.0, _WIDTH * len(options)), 3.6), dpi=110)
    panels = figure.subplots(1, len(options), squeeze=False, sharey=True)[0]
    for axes, option in zip(panels, options, strict=True):
        values = sorted({_shown(row[option]) for row in rows}, key=_order)
        position = {value: number for number, value in enumerate(values)}
        dots = [(position[_shown(row[option])], row[by]) for row in rows]
        axes.plot(*zip(*dots, strict=True), "o", color=_BLUE, alpha=0.6)
        means = [np.array([y for x, y in dots if x == number and math.isfinite(y)]) for number in position.values()]
        axes.plot(list(position.values()), [each.mean() if each.size else math.nan for each in means], color=_GREY)
        if math.isfinite(dots[0][1]):
            axes.plot(*dots[0], "*", markersize=15, color=_PINK)
        axes.set_xticks(list(position.values()), values)
        axes.set_xlabel(option)
        plain(axes)
    panels[0].set_ylabel(f"{by} ({'lower' if lowest else 'higher'} is better)")
    figure.tight_layout()
    return pixels_of(figure)


def _shown(value: Any) -> str:
    return ":".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _order(text: str) -> tuple[float, str]:
    """Numbers by their size, other values after them by the alphabet."""
    try:
        return float(text.split(":")[0]), text
    except ValueError:
        return math.inf, text
