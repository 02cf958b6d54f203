"""One sample as a model in training handles it: input, truth, prediction, error and hidden channels, in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from ncafast.utils.texts import printable
from ncafast.viz.figures import Array, pixels_of
from ncafast.viz.overlays import legend_text
from ncafast.viz.rows import show_image_row
from ncafast.viz.views import Bars, View, draw_bars, draw_scale, draw_view

_SIDE, _GAP, _BAR = 2.1, 0.15, 0.55  # inches: width of a panel, between two, of a colour bar with its numbers
_NAMES = 0.9  # inches to the left of bars
_LINE = 0.28  # inches: height of a line of text
_LETTER = 0.085  # inches: width of a letter of 10 points
_IN_ROW, _ROWS = 8, 2  # hidden channels
_FULL = 0.99  # share of the hidden channels' values that are within full colour


@dataclass(frozen=True)
class Visual:
    """What TensorBoard shows of one sample.

    Attributes:
        name: of the sample.
        views: panels, from left to right.
        hidden: the state's hidden channels [C, H, W]; those are shown that vary most.
        first: number of the first of them.
        title: above all; None takes the name.
        legend: colours of what the panels show, by name.
        aspect: height of a pixel over its width.
    """

    name: str
    views: Sequence[View | Bars]
    hidden: Tensor | None = None
    first: int = 0
    title: str | None = None
    legend: Mapping[str, Any] = field(default_factory=dict)
    aspect: float = 1.0

    def draw(self) -> Array:
        """The picture [height, width, 3] uint8."""
        page = _Page(self)
        for view, left, wide in page.places():
            axes = page.axes(left, page.top, wide, page.tall)
            axes.set_title(printable(view.title), fontsize=9, pad=4, parse_math=False)
            if isinstance(view, Bars):
                draw_bars(axes, view)
            else:
                draw_view(axes, view, self.aspect, page.axes(left + wide + 0.05, page.top, 0.1, page.tall))
        page.draw_legend()
        page.draw_hidden()
        page.draw_title()
        return pixels_of(page.figure)


class _Page:
    """Where everything is, in inches from the left and the top."""

    def __init__(self, visual: Visual) -> None:
        self.visual = visual
        views = [view for view in visual.views if isinstance(view, View)]
        ratios = [len(view.pixels) / view.pixels.shape[1] * visual.aspect for view in views] or [1.0]
        self.tall = _SIDE * _bounded(max(ratios))
        self.width = sum(wide + _room(view) + _GAP for view, _, wide in self.places()) + _GAP
        self.top = 2 * _LINE + 0.08
        longest = max((len(name) for name in visual.legend), default=0)
        fitting = int((self.width - 2 * _GAP) / (0.4 + 0.8 * _LETTER * longest))
        self.columns = max(1, min(fitting, len(visual.legend)))  # of the legend
        self.legend = _LINE * -(-len(visual.legend) // self.columns)
        below = self.legend or (_LINE if len(views) < len(visual.views) else 0.0)  # numbers below bars
        self.hidden_top = self.top + self.tall + below + 0.1
        self.rows = _chosen(visual.hidden)
        scale = (self.width - 2 * _GAP - _BAR) / _IN_ROW
        self.channel = scale * _bounded(ratios[0])
        height = self.hidden_top + (_LINE if self.rows else 0.05) + len(self.rows) * (self.channel + 0.22)
        self.figure = Figure(figsize=(self.width, height), dpi=100)

    def places(self) -> list[tuple[View | Bars, float, float]]:
        """Every panel with its left edge and its width."""
        left, found = _GAP, []
        for view in self.visual.views:
            wide = 1.2 * _SIDE if isinstance(view, Bars) else _SIDE
            left += _NAMES if isinstance(view, Bars) else 0.0  # for the classes' names
            found.append((view, left, wide))
            left += wide + _GAP + (_room(view) if isinstance(view, View) else 0.0)
        return found

    def axes(self, left: float, top: float, wide: float, tall: float) -> Axes:
        """A panel."""
        across, up = self.figure.get_size_inches()
        return self.figure.add_axes((left / across, 1 - (top + tall) / up, wide / across, tall / up))

    def up(self, top: float) -> float:
        """So many inches from the top, as matplotlib counts."""
        return 1 - top / self.figure.get_figheight()

    def draw_title(self) -> None:
        """In smaller letters where it is long, and without its middle where that is not enough."""
        text = printable(self.visual.name if self.visual.title is None else self.visual.title)
        room = (self.width - 2 * _GAP) / _LETTER  # letters of 10 points
        size = min(10.0, max(7.0, 10 * room / max(len(text), 1)))
        most = int(10 * room / size)
        if len(text) > most:
            text = f"{text[: most // 2 - 1]}…{text[-(most // 2) :]}"
        self.figure.suptitle(text, fontsize=size, y=self.up(0.17), va="center", parse_math=False)

    def draw_legend(self) -> None:
        """Below the panels."""
        entries = self.visual.legend.items()
        if entries:
            handles = [Patch(color=colour, label=legend_text(printable(name))) for name, colour in entries]
            look: Any = {"frameon": False, "fontsize": 8, "handlelength": 1, "columnspacing": 1.2}
            middle = 0.5, self.up(self.top + self.tall + self.legend / 2)
            self.figure.legend(handles=handles, loc="center", ncols=self.columns, bbox_to_anchor=middle, **look)

    def draw_hidden(self) -> None:
        """Rows of hidden channels with one colour bar."""
        hidden = self.visual.hidden
        if hidden is None or not self.rows:
            return
        values = hidden.detach().float().cpu().nan_to_num(0.0).numpy()
        limit = float(np.quantile(np.abs(values), _FULL)) or 1.0
        across = self.width - 2 * _GAP - _BAR
        top = self.hidden_top + _LINE
        self.figure.text(_GAP / self.width, self.up(top - 0.12), self._heading(len(values)), fontsize=9, va="center")
        for numbers in self.rows:
            axes = self.axes(_GAP, top, across * len(numbers) / _IN_ROW, self.channel)
            names = [self.visual.first + number for number in numbers]
            look: Any = {"vmin": -limit, "vmax": limit, "cmap": "RdBu_r", "aspect": self.visual.aspect}
            show_image_row(axes, [values[number] for number in numbers], names=names, **look)
            axes.set_anchor("W")
            top += self.channel + 0.22
        right = _GAP + across * len(self.rows[0]) / _IN_ROW
        bar = self.axes(right + 0.08, self.hidden_top + _LINE, 0.1, self.channel)
        draw_scale(self.figure, axes.images[-1], bar, "")

    def _heading(self, count: int) -> str:
        shown = sum(map(len, self.rows))
        return "hidden channels" if shown == count else f"hidden channels: the {shown} of {count} that vary most"


def _bounded(ratio: float) -> float:
    """Height over width of a panel; an image beyond these leaves a part of it empty."""
    return min(max(ratio, 0.4), 1.6)


def _room(view: View | Bars) -> float:
    """What a panel needs beside it: a colour bar to its right, or names to its left."""
    if isinstance(view, Bars):
        return _NAMES
    return _BAR if np.ndim(view.pixels) == 2 else 0.0


def _chosen(hidden: Tensor | None) -> list[list[int]]:
    """Numbers of the hidden channels that vary most, in rows."""
    if hidden is None or not len(hidden):
        return []
    spread = hidden.detach().float().cpu().nan_to_num(0.0).flatten(1).std(1, correction=0)
    best = sorted(spread.argsort(descending=True, stable=True)[: _IN_ROW * _ROWS].tolist())
    return [best[start : start + _IN_ROW] for start in range(0, len(best), _IN_ROW)]
