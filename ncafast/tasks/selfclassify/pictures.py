"""Pictures of digits whose cells are coloured by what they say, and curves of accuracy over time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ncafast.tasks.selfclassify.idx import CLASSES
from ncafast.tasks.selfclassify.metrics import Tally
from ncafast.tasks.selfclassify.states import ink, logits
from ncafast.viz import charts
from ncafast.viz.figures import pixels_of
from ncafast.viz.pixels import Array, enlarged, tiled
from ncafast.viz.styles import ANIMATION_STYLES, AnimationStyle, Colour
from ncafast.viz.views import View

# The article's colours of the ten digits, then of a cell that says nothing yet, and of the background.
_HEX = "800000 e6194b 46f0f0 d2f53c fabebe aa6e28 aaffc3 a5a39f 008080 808000 000000 ffffff"
COLOURS = torch.tensor([list(bytes.fromhex(each)) for each in _HEX.split()], dtype=torch.uint8)
DIGITS = {str(digit): f"#{shade}" for digit, shade in enumerate(_HEX.split()[:CLASSES])}
_SILENT, _NOTHING = CLASSES, CLASSES + 1
_WHITE = (255, 255, 255)
_LEGEND = 150  # pixels that its ten digits need
_CERTAIN = 0.01  # a cell whose highest logit exceeds the mean by less says nothing
_ACCURACIES: dict[str, tuple[str | None, str]] = {
    "val_cells": ("cells", "#35a07f"),
    "val_votes": ("votes", "#3a6ea5"),
    "val_cells_later": ("cells, four times as long", "#f8961e"),
}
PANELS = (
    charts.training_loss(),
    charts.Panel("held-out accuracy", _ACCURACIES, {"ylim": (0, 1)}, marks_best=True, legend="lower right"),
)


def colour(states: Tensor, style: AnimationStyle = ANIMATION_STYLES["light"]) -> Array:
    """States [N, C, H, W] as pictures [N, H, W, 3] uint8: each cell of a digit in the colour of what it says."""
    scores = logits(states)
    said = scores.argmax(1)
    said = said.where(scores.amax(1) - scores.mean(1) > _CERTAIN, torch.full_like(said, _SILENT))
    said = said.where(ink(states[:, -1]), torch.full_like(said, _NOTHING))
    shades = COLOURS.numpy().copy()
    if style.is_dark:  # black and white change places
        shades[_SILENT], shades[_NOTHING] = style.rgb("text"), style.rgb("background")
    return shades[said.cpu().numpy()]


def views(state: Tensor, label: int) -> list[View]:
    """A digit's state [C, H, W]: the image, the colours that its cells should have and those they have, and how
    improbable each finds the truth."""
    inside = ink(state[-1])
    truth = np.where(inside[..., None].numpy(), COLOURS[label].numpy(), np.uint8(255))
    error = (1 - logits(state[None])[0].softmax(0)[label]).where(inside, torch.nan)
    return [
        View("input", state[-1], "gray_r", (0.0, 1.0)),
        View("truth", truth),
        View("prediction", colour(state[None])[0]),
        View("error", error, "magma", (0.0, 1.0), "1 - p(truth)"),
    ]


def sheet(
    pictures: Array,  # [N, H, W, 3] uint8
    columns: int = 10,
    zoom: int = 1,
    page: Colour = _WHITE,
) -> Array:
    """Pictures in rows, as one picture [height, width, 3] uint8."""
    columns = min(columns, len(pictures))
    blank = [np.full_like(pictures[0], page)] * (-len(pictures) % columns)
    return enlarged(tiled([*pictures, *blank], columns=columns, gap=2, colour=page), zoom)


def stack(parts: Sequence[Array], page: Colour = _WHITE) -> Array:
    """Pictures one below the other, with a narrow gap, filled with the page's colour to the widest one."""
    width = max(part.shape[1] for part in parts)
    whole = np.full((sum(len(part) + 6 for part in parts), width, 3), page, np.uint8)
    top = 3
    for part in parts:
        whole[top : top + len(part), : part.shape[1]] = part
        top += len(part) + 6
    return whole


def with_legend(states: Tensor, zoom: int, style: AnimationStyle) -> Array:
    """States [N, C, H, W] in rows, and which colour is which digit: [height, width, 3] uint8."""
    page = style.rgb("background")
    shown = sheet(colour(states, style), zoom=zoom, page=page)
    return stack([shown, legend(max(shown.shape[1], _LEGEND))], page)


@lru_cache(maxsize=4)  # of all frames of an animation
def legend(width: int) -> Array:
    """A strip [height, width, 3] uint8 with the ten colours and their digits."""
    figure = Figure(figsize=(width / 100, 0.24), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, CLASSES), ylim=(0, 1))
    axes.axis("off")
    for digit in range(CLASSES):
        shade = COLOURS[digit].numpy() / 255
        axes.axvspan(digit, digit + 1, color=shade, linewidth=0)
        dark = float(shade @ (0.299, 0.587, 0.114)) < 0.5
        axes.text(digit + 0.5, 0.47, str(digit), ha="center", va="center", fontsize=10, weight="bold",
                  color="white" if dark else "black")  # fmt: skip
    return pixels_of(figure)


def accuracy(found: dict[int, Tally], trained: int) -> Array:
    """Accuracy over the steps, as [height, width, 3] uint8; a line marks the length of training."""
    figure = Figure(figsize=(7.5, 4.2), dpi=110)
    axes = figure.add_subplot()
    for name, text, shade in (
        ("cell_accuracy", "cells that are right", "#35a07f"),
        ("vote_accuracy", "votes that are right", "#3a6ea5"),
        ("agreement", "digits that agree", "#f8961e"),
    ):
        values = [getattr(tally, name) for tally in found.values()]
        axes.plot(list(found), values, marker="o", markersize=4, color=shade, label=text)
    axes.axvline(trained, color="0.6", linestyle=":", label="length of training")
    axes.set(xlabel="step", ylim=(0, 1))
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    charts.plain(axes)
    figure.tight_layout()
    return pixels_of(figure)


def confusion(matrix: Tensor) -> Array:
    """The table [10, 10] of true digits against votes, as [height, width, 3] uint8."""
    return charts.confusion(matrix, [str(digit) for digit in range(CLASSES)], found="vote of the cells")
