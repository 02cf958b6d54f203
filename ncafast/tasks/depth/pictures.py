"""Pictures for people: depth beside the image and the truth, with a colour bar in metres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ncafast.models import CascadeNCA
from ncafast.tasks.cascades import Array, stages
from ncafast.tasks.depth.recipe import Recipe
from ncafast.utils.texts import printable
from ncafast.viz import charts
from ncafast.viz.captions import Frame
from ncafast.viz.figures import pixels_of
from ncafast.viz.views import View

_LOSS = {"loss": ("training loss", "#3a6ea5")}
_ERROR = {"val_abs_rel": ("mean over held-out images", "#ff5d8f"), "val_constant": ("a constant depth", "#f8961e")}
PANELS = (  # of curves.png
    charts.Panel("training loss", _LOSS, {"ylim": (0, None)}, legend="upper right"),
    charts.Panel("held-out |error| / depth", _ERROR, {"ylim": (0, None)}, marks_best=True, legend="upper right"),
)


def beside(pixels: Array, depth: Array, title: str = "", truth: Array | None = None) -> Array:
    """An image [H, W, 3], its depth [H, W] in metres and the true one in one range of colours: [height, width, 3]
    uint8. What is unknown (NaN) is white."""
    shown = [("estimate", depth)] if truth is None else [("truth", truth), ("estimate", depth)]
    low, high = _range(*(plane for _, plane in shown))
    panel = 3.4  # inches
    tall = panel * min(max(pixels.shape[0] / pixels.shape[1], 0.4), 1.6)
    head = 0.7 if title else 0.4
    figure = Figure(figsize=(panel * (1 + len(shown)) + 1.0, tall + head + 0.1), dpi=100)
    axes = figure.subplots(1, 1 + len(shown))
    axes[0].imshow(pixels)
    axes[0].set_title("image", fontsize=10)
    for place, (name, plane) in zip(axes[1:], shown, strict=True):
        drawn = place.imshow(np.ma.masked_invalid(plane), cmap="viridis_r", vmin=low, vmax=max(high, low + 1e-6))
        place.set_title(name, fontsize=10)
    for place in axes:
        place.set(xticks=[], yticks=[])
        place.spines[:].set_visible(False)
    figure.suptitle(printable(title), fontsize=11, parse_math=False)
    figure.subplots_adjust(0.02, 0.1 / figure.get_figheight(), 0.9, 1 - head / figure.get_figheight(), wspace=0.05)
    bar = figure.colorbar(drawn, cax=figure.add_axes((0.92, 0.1, 0.015, 0.68)))
    bar.ax.set_title("metres", fontsize=8)
    return pixels_of(figure)


def views(truth: Array, estimate: Array) -> list[View]:
    """Depths [H, W] in metres, the true one with NaN where it is unknown, and how far apart they are."""
    limits = _range(truth, estimate)
    return [
        View("truth", truth, "viridis_r", limits, "metres"),
        View("prediction", estimate, "viridis_r", limits, "metres"),
        View("error", np.abs(estimate - truth), "magma", (0.0, None), "metres"),
    ]


def _range(*planes: Array) -> tuple[float, float]:
    """The depths that are shown apart: all but the outermost, which may be errors of the sensor."""
    known = np.concatenate([plane[np.isfinite(plane)] for plane in planes])
    low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 1.0)
    return float(low), float(high)


def film(
    pixels: Array,
    levels: Sequence[Tensor],  # of each level, [n, 1, h, w] scaled logarithms after every so many steps
    recipe: Recipe,
    *,
    model: CascadeNCA,
    every: int,
) -> Iterator[Frame]:
    """A frame for every state: the depth beside the image [H, W, 3]."""
    for outputs, label, done in stages(model, levels, every, pixels.shape[:2]):
        yield Frame(beside(pixels, recipe.metres(outputs[0].numpy())), label, done)
