"""The panels of a picture: colours, values with a colour bar, probabilities of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ncafast.utils.texts import printable
from ncafast.viz.figures import Array
from ncafast.viz.overlays import CLASS_COLOURS
from ncafast.viz.pixels import array_of

_DARK = 40  # grey of the background in a picture of classes
_MOST_BARS, _LONGEST = 6, 12  # classes, and letters of their names


@dataclass(frozen=True)
class View:
    """A panel: colours [H, W, 3] uint8, or values [H, W] with a colour bar; NaN, for what is unknown, is grey.

    Attributes:
        title: above it.
        pixels: a tensor or an array.
        cmap: matplotlib's name of the colours of values.
        limits: values at both ends of the colours; None takes the lowest or the highest.
        unit: above the colour bar.
    """

    title: str
    pixels: Any
    cmap: str = "viridis"
    limits: tuple[float | None, float | None] = (None, None)
    unit: str = ""


@dataclass(frozen=True)
class Bars:
    """A panel with a bar for the probability of each class: the likeliest ones, and the true one in another colour."""

    title: str
    names: Sequence[str]
    values: Sequence[float]
    truth: int | None = None


def class_picture(labels: Any, colours: Sequence[str] = CLASS_COLOURS) -> Array:
    """Class numbers [H, W] as a picture [H, W, 3] uint8: 0 is dark, every other class has a colour of its own."""
    numbers = array_of(labels)
    table = np.array([[_DARK] * 3, *(list(bytes.fromhex(colour[1:])) for colour in colours)], np.uint8)
    return table[np.where(numbers > 0, (numbers - 1) % len(colours) + 1, 0)]


def class_legend(names: Sequence[str], colours: Sequence[str] = CLASS_COLOURS) -> dict[str, str]:
    """The colours of `class_picture` by the classes' names."""
    return {name: colours[number % len(colours)] for number, name in enumerate(names)}


def draw_view(axes: Axes, view: View, aspect: float, beside: Axes) -> None:
    """Draw colours or values in a panel; the one beside it takes the colour bar, or is removed."""
    axes.set(xticks=[], yticks=[], facecolor="0.75")
    axes.spines[:].set(color="0.8", linewidth=0.6)  # where a picture is white
    pixels = array_of(view.pixels)
    if pixels.ndim == 3:
        beside.remove()
        axes.imshow(pixels, interpolation="nearest", aspect=aspect)
        return
    known = pixels[np.isfinite(pixels)].astype(float)
    ends = (known.min(), known.max()) if known.size else (0.0, 1.0)
    low, high = (end if limit is None else limit for limit, end in zip(view.limits, ends, strict=True))
    values: Any = np.ma.masked_invalid(pixels.astype(float))
    look: Any = {"cmap": view.cmap, "vmin": low, "vmax": high if high > low else low + 1e-6}
    draw_scale(axes.figure, axes.imshow(values, interpolation="nearest", aspect=aspect, **look), beside, view.unit)


def draw_scale(figure: Any, drawn: Any, place: Axes, unit: str) -> None:
    """Fill a narrow panel with the colours of what was drawn, and their values."""
    bar = figure.colorbar(drawn, cax=place)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.ax.set_title(printable(unit), fontsize=7, pad=7, parse_math=False)


def draw_bars(axes: Axes, view: Bars) -> None:
    """Draw the bars in a panel; the names are to its left."""
    best = sorted(range(len(view.values)), key=lambda number: -view.values[number])[:_MOST_BARS]
    if view.truth is not None and view.truth not in best:
        best[-1] = view.truth
    for row, number in enumerate(best):
        axes.barh(row, view.values[number], color="#35a07f" if number == view.truth else "#8fb8de")
    full = [printable(view.names[number]) for number in best]
    names = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in full]
    axes.set_yticks(range(len(best)), names, parse_math=False)
    axes.set(xlim=(0, 1), ylim=(_MOST_BARS - 0.4, -0.6), xticks=[0, 0.5, 1])
    axes.tick_params(labelsize=8, length=2)
    axes.spines[["top", "right"]].set_visible(False)
