"""Pictures for people: a sample beside its textures, the curves of a run, scores over time, the study's heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ncafast.viz import charts
from ncafast.viz.figures import pixels_of
from ncafast.viz.pixels import Array

_LOG = {"yscale": "log"}
PANELS = (
    charts.Panel("distance in training", {"texture": (None, "#3a86ff")}, _LOG),
    charts.Panel("distance of textures grown anew", {"val_loss": (None, "#3a86ff")}, _LOG, marks_best=True),
)


def side_by_side(images: Sequence[Array], titles: Sequence[str]) -> Array:
    """Pictures [H, W, 3] uint8 of any sizes in a row, each under its title: [height, width, 3]."""
    height = max(image.shape[0] for image in images)
    zoom = max(1, round(256 / height))
    inches = [zoom * image.shape[1] / 100 for image in images]
    gap, head = 0.12, 0.32
    whole = (sum(inches) + gap * (len(images) + 1), zoom * height / 100 + head + gap)
    figure = Figure(figsize=whole, dpi=100)
    left = gap
    for image, title, wide in zip(images, titles, inches, strict=True):
        tall = zoom * image.shape[0] / 100
        axes = figure.add_axes((left / whole[0], gap / whole[1], wide / whole[0], tall / whole[1]))
        axes.imshow(image, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(title, fontsize=10, pad=4)
        left += wide + gap
    return pixels_of(figure)


def over_time(steps: Sequence[int], distances: Mapping[str, Sequence[float]]) -> Array:
    """Distances from the sample by the number of steps, both axes logarithmic."""
    figure = Figure(figsize=(5.2, 3.6), dpi=110)
    axes = figure.subplots()
    for name, values in distances.items():
        axes.plot(steps, values, marker="o", label=name)
    axes.set(title="distance from the sample", xlabel="steps", xscale="log", yscale="log")
    axes.legend(frameon=False)
    charts.plain(axes)
    figure.tight_layout()
    return pixels_of(figure)


def heat_map(
    values: Array,  # [channels, hidden], NaN where nothing is known yet
    channels: Sequence[int],
    hidden: Sequence[int],
    title: str,
) -> Array:
    """Motion strength over channels (upwards) and hidden width (to the right), every cell with its number."""
    figure = Figure(figsize=(1.6 + 0.85 * len(hidden), 1.5 + 0.6 * len(channels)), dpi=110)
    axes = figure.subplots()
    known = values[np.isfinite(values)]
    most = float(known.max()) if known.size else 1.0
    shown = axes.imshow(
        np.ma.masked_invalid(values), cmap="viridis", origin="lower", vmin=0, vmax=most or 1.0, aspect="auto"
    )
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        text = f"{value:.3g}" if np.isfinite(value) else "…"
        bright = np.isfinite(value) and value > 0.6 * most
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color="black" if bright else "white")
    axes.set(title=title, xlabel="hidden width D", ylabel="channels C")
    axes.set_facecolor("0.4")
    axes.set_xticks(range(len(hidden)), [str(value) for value in hidden])
    axes.set_yticks(range(len(channels)), [str(value) for value in channels])
    figure.colorbar(shown, ax=axes, label="motion strength, pixels per frame")
    figure.tight_layout()
    return pixels_of(figure)
