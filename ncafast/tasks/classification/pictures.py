"""Pictures for people: curves of a run, and an image's channels over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ncafast.tasks.classification.recipe import Recipe
from ncafast.utils.texts import printable
from ncafast.viz import charts
from ncafast.viz.captions import Frame
from ncafast.viz.figures import Array, pixels_of
from ncafast.viz.pixels import tiled
from ncafast.viz.views import Bars, View
from ncafast.viz.visual import Visual

_BLUE, _PALE, _PINK, _GREEN, _ORANGE = "#3a6ea5", "#8fb8de", "#ff5d8f", "#2a9d6f", "#f8961e"
_LOSSES = {"loss": ("training", _BLUE), "val_loss": ("held out", _ORANGE)}
_MEASURES = {
    "val_accuracy": ("accuracy", _PINK),
    "val_f1_macro": ("F1, mean over classes", _GREEN),
    "val_f1_weighted": ("F1, weighted", _PALE),
}
PANELS = (
    charts.Panel("loss", _LOSSES, {"ylim": (0, None)}),
    charts.Panel("held-out images", _MEASURES, {"ylim": (0, 1)}, marks_best=True),
)
MOST_CHANNELS, MOST_TIMES = 12, 7  # of a picture; more would be too small to see


def channels_over_time(
    states: Sequence[Tensor],  # of one image, [C, H, W] after 0, 1, ... all steps
    probabilities: Sequence[float],
    recipe: Recipe,
    title: str = "",
) -> Array:
    """One image's state: a row per point in time, the image and then its hidden channels; below, the probabilities.

    Each channel is coloured from its lowest to its highest value over all steps. Those are shown whose last state
    varies most.
    """
    times = np.unique(np.linspace(0, len(states) - 1, min(MOST_TIMES, len(states))).round().astype(int))
    image = _photograph(states[0][:3], recipe)
    hidden, chosen = _hidden([states[time] for time in times])
    figure = Figure(figsize=(0.95 * (1 + len(chosen)) + 0.6, 0.95 * len(times) + 2.3), dpi=100)
    grid = figure.add_gridspec(len(times) + 2, 1, hspace=0.06)
    shown = [[_bytes(image), *(_coloured(hidden[:, channel], row) for channel in chosen)] for row in range(len(times))]
    _sheet(figure.add_subplot(grid[: len(times)]), shown, [f"step {time}" for time in times], ["image", *(chosen + 3)])
    _bars(figure.add_subplot(grid[len(times) + 1]), probabilities, recipe)
    figure.suptitle(printable(title), fontsize=11, parse_math=False)
    figure.subplots_adjust(0.1, 0.09, 0.98, 0.92)
    return pixels_of(figure)


def film(
    states: Sequence[Tensor],  # of one image, [C, H, W] after 0, 1, ... all steps
    probabilities: Sequence[Sequence[float]],  # after each of these
    recipe: Recipe,
    title: str = "",
) -> Iterator[Frame]:
    """A frame per step: the image and its hidden channels, below them the probabilities.

    Channels are chosen and coloured as in `channels_over_time`, alike in all frames.
    """
    image = _photograph(states[0][:3], recipe)
    hidden, chosen = _hidden(states)
    columns = -(-(1 + len(chosen)) // 2)
    for step, now in enumerate(probabilities):
        figure = Figure(figsize=(max(4.6, 1.3 * columns + 0.6), 2 * 1.4 + 2.2), dpi=100)
        grid = figure.add_gridspec(3, columns, wspace=0.06, hspace=0.2, height_ratios=(1, 1, 0.7))
        for index in range(1 + len(chosen)):
            axes = figure.add_subplot(grid[divmod(index, columns)])
            _panel(axes, image, hidden[:, chosen[index - 1]] if index else None, step)
            axes.set_title("image" if index == 0 else f"channel {chosen[index - 1] + 3}", fontsize=8, pad=2)
        _bars(figure.add_subplot(grid[2, :]), now, recipe)
        figure.suptitle(printable(title), fontsize=11, parse_math=False)
        figure.subplots_adjust(0.14, 0.14, 0.98, 0.89)
        yield Frame.at(pixels_of(figure), step, len(states) - 1)


def visual(
    name: str, pixels: Tensor, state: Tensor, probabilities: Sequence[float], classes: Sequence[str], truth: int
) -> Visual:
    """An image [H, W, 3] uint8 with its last state [C, H, W] and what its class was found to be."""
    best = int(np.argmax(probabilities))
    loss = -np.log(max(probabilities[truth], 1e-12))
    found = "right" if best == truth else f"found {classes[best]}"
    title = f"{name}: {classes[truth]}, {found}, cross-entropy {loss:.2f}"
    bars = Bars("probability (green: the truth)", classes, probabilities, truth)
    return Visual(name, [View("input", pixels.numpy()), bars], state[3:], first=3, title=title)


def _hidden(states: Sequence[Tensor]) -> tuple[Array, Array]:
    """Hidden channels [T, C - 3, H, W] of an image's states, and those that vary most in the last one."""
    hidden = np.stack([state[3:].float().cpu().numpy() for state in states])
    return hidden, np.sort(np.argsort(-hidden[-1].std((1, 2)), kind="stable")[:MOST_CHANNELS])


def _sheet(axes: Axes, panels: Sequence[Sequence[Array]], rows: Sequence[str], columns: Sequence[object]) -> None:
    """Panels [H, W, 3] in rows, named at the left and above. One image for all: axes for each would take seconds."""
    height, width = panels[0][0].shape[:2]
    gap = max(1, width // 16)
    whole = tiled([panel for row in panels for panel in row], columns=len(columns), gap=gap, colour=255)
    axes.imshow(whole)
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(len(columns)) * (width + gap) + width / 2 - 0.5, list(map(str, columns)))
    axes.set_yticks(np.arange(len(rows)) * (height + gap) + height / 2 - 0.5, rows, rotation=90, va="center")
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)


def _coloured(channel: Array, step: int) -> Array:
    """A channel [T, H, W] after a step as colours, from its lowest to its highest value over all steps."""
    low = channel.min()
    shades = (channel[step] - low) / max(channel.max() - low, 1e-6)
    return np.asarray(colormaps["viridis"](shades, bytes=True))[..., :3]


def _bytes(image: Array) -> Array:
    """[H, W, 3] from 0 to 1 as uint8."""
    return np.rint(255 * image).astype(np.uint8)


def _panel(axes: Axes, image: Array, channel: Array | None, step: int) -> None:
    """The image, or a channel [T, H, W] after a step, coloured from its lowest to its highest value over all steps."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if channel is None:
        axes.imshow(image)
    else:
        low = channel.min()
        axes.imshow(channel[step], cmap="viridis", vmin=low, vmax=max(channel.max(), low + 1e-6))


def _bars(axes: Axes, probabilities: Sequence[float], recipe: Recipe) -> None:
    """The probability of every class, the likeliest one in another colour."""
    best = int(np.argmax(probabilities))
    colours = [_PINK if number == best else _PALE for number in range(len(probabilities))]
    axes.bar(range(len(probabilities)), probabilities, color=colours)
    names = map(printable, recipe.classes)
    axes.set_xticks(range(len(recipe.classes)), names, rotation=20, ha="right", fontsize=8, parse_math=False)
    axes.set(ylim=(0, 1), ylabel="probability")
    axes.spines[["top", "right"]].set_visible(False)


def _photograph(scaled: Tensor, recipe: Recipe) -> Array:
    """A scaled image [3, H, W] as it was, [H, W, 3] from 0 to 1."""
    values = scaled.float().cpu().movedim(0, -1).numpy()
    return np.clip(values * np.array(recipe.std) + np.array(recipe.mean), 0, 1)
