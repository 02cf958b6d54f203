"""Pictures of growing states: over white, in a row, as curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from torch import Tensor

from ncafast.tasks.growing.healing import Course
from ncafast.viz import charts
from ncafast.viz.figures import pixels_of
from ncafast.viz.pixels import Array, enlarged, mosaic, tiled
from ncafast.viz.styles import Colour

_COLOURS = {"left": "#3a6ea5", "right": "#ff5d8f", "top": "#f8961e", "bottom": "#35a07f", "centre": "#8a5fbf"}
_MEASURES: dict[str, tuple[str | None, str]] = {
    "val_grown": ("grown", "#35a07f"),
    "val_later": ("three times as long", "#f8961e"),
    "val_healed": ("healed, after a half was cut", "#ff5d8f"),
}
PANELS = charts.training_loss(), charts.Panel("loss from the seed", _MEASURES, {"yscale": "log"}, marks_best=True)


def on_page(
    states: Tensor,  # [..., C, H, W]: red, green and blue multiplied by alpha, alpha, anything
    zoom: int = 1,
    page: Colour = (255, 255, 255),
) -> Array:  # [..., H * zoom, W * zoom, 3] uint8
    """States as they look on a white page, or on one of another colour."""
    colour, alpha = states[..., :3, :, :], states[..., 3:4, :, :].clamp(0, 1)
    paper = states.new_tensor(page)[:, None, None] / 255
    seen = ((1 - alpha) * paper + colour).clamp(0, 1).movedim(-3, -1)  # [..., H, W, 3]
    pixels = (255 * seen).round().to(torch.uint8)
    return pixels.repeat_interleave(zoom, -3).repeat_interleave(zoom, -2).cpu().numpy()


def row(states: Sequence[Tensor], zoom: int = 4) -> Array:
    """States [C, H, W] side by side, with a grey line between them, as [height, width, 3] uint8."""
    return tiled([on_page(state[:4], zoom) for state in states], columns=len(states), gap=2, colour=200)


def beside_channels(state: Tensor, zoom: int, page: Colour = (255, 255, 255)) -> Array:
    """A state [C, H, W], and beside it all channels as tiles, as one picture of about twice the width."""
    columns = int(np.ceil(np.sqrt(len(state))))
    tiles = mosaic(state, columns=columns, limit=1.0, dark=sum(page) < 384)
    image = on_page(state, columns, page)
    whole = np.full((max(len(tiles), len(image)), image.shape[1] + tiles.shape[1], 3), page, np.uint8)
    whole[: len(image), : image.shape[1]] = image
    whole[: len(tiles), image.shape[1] :] = tiles
    return enlarged(whole, max(1, zoom // columns))


def healing(courses: Sequence[Course], grown: Sequence[float]) -> Array:
    """The regeneration test: a row of pictures per cut, and the loss over the steps, as [height, width, 3] uint8."""
    rows = len(courses)
    figure = Figure(figsize=(11, max(3.6, 1.55 * rows + 0.5)), dpi=110)
    grid = figure.add_gridspec(rows, 4, width_ratios=(1, 1, 1, 4.2), wspace=0.08, hspace=0.08,
                               left=0.04, right=0.95, top=0.93, bottom=0.08)  # fmt: skip
    for number, course in enumerate(courses):
        for column, text in enumerate(("grown", "cut", "healed")):
            axes = figure.add_subplot(grid[number, column])
            axes.imshow(on_page(course.states[column]), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color("0.85")
            if number == 0:
                axes.set_title(text, fontsize=10, color="0.35")
            if column == 0:
                axes.set_ylabel(course.cut, fontsize=10)
    axes = figure.add_subplot(grid[:, 3])
    axes.plot(range(len(grown)), grown, color="0.35", label="growing from the seed")
    for course in courses:
        steps = range(len(grown) - 1, len(grown) - 1 + len(course.losses))
        axes.plot(steps, course.losses, color=_COLOURS[course.cut], label=f"{course.cut} cut away")
    axes.set(xlabel="step", yscale="log", title="loss")
    axes.yaxis.tick_right()
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=9)
    axes.grid(alpha=0.25)
    return pixels_of(figure)
