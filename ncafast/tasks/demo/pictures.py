"""The demo in one picture: image, what a threshold finds, what the automaton finds, truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ncafast.losses.masks import dice
from ncafast.tasks.demo.brain import Array, Scan
from ncafast.viz.figures import pixels_of

_RIGHT, _WRONG, _MISSED = "#3ddc97", "#ff8c42", "#c77dff"
_GROUND, _INK = "#0e1117", "#e6e8eb"
_PANEL = 2.3  # inches


def comparison(scan: Scan, threshold: Array, automaton: Array, slices: Sequence[tuple[str, int]]) -> Array:
    """Slices of a scan in rows, as [height, width, 3] uint8, each with its name and its index in the stack.

    Both masks are [X, S, Z] bool. What they find is coloured by whether it is right; below each is its Dice.
    """
    rows = len(slices)
    figure = Figure(figsize=(4 * _PANEL + 0.3, rows * (_PANEL + 0.24) + 0.75), dpi=100, facecolor=_GROUND)
    panels = figure.subplots(rows, 4, squeeze=False)
    for axes, title in zip(panels[0], ("image", "a threshold finds", "the automaton finds", "truth"), strict=True):
        axes.set_title(title, color=_INK, fontsize=13, pad=8)
    for row, (name, index) in zip(panels, slices, strict=True):
        image, truth = scan.image[:, index], scan.white[:, index]
        found = [threshold[:, index], automaton[:, index]]
        shown = [_grey(image), *(_coloured(image, mask, truth) for mask in found), _coloured(image, truth, truth)]
        captions = ["", *(f"Dice {dice(mask, truth):.2f}" for mask in found), ""]
        row[0].set_ylabel(name, color=_INK, fontsize=11)
        for axes, picture, caption in zip(row, shown, captions, strict=True):
            axes.imshow(picture.swapaxes(0, 1), origin="lower", interpolation="bilinear")
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(caption, color=_INK, fontsize=12, weight="bold")
            axes.spines[:].set_visible(False)
    meaning = {"white matter": _RIGHT, "found, but is none": _WRONG, "missed": _MISSED}
    patches = [Patch(color=colour, label=label) for label, colour in meaning.items()]
    figure.legend(handles=patches, loc="lower center", ncols=3, frameon=False, labelcolor=_INK, fontsize=11)
    tall = figure.get_figheight()
    figure.subplots_adjust(0.035, 0.62 / tall, 0.995, 1 - 0.36 / tall, wspace=0.03, hspace=0.13)
    return pixels_of(figure)


def _grey(image: Array) -> Array:
    """A slice as colours [X, Z, 3]."""
    scaled = np.clip(image / np.percentile(image, 99.5), 0, 1)
    return np.repeat(scaled[..., None], 3, -1)


def _coloured(image: Array, found: Array, truth: Array) -> Array:
    """A slice [X, Z, 3] with what is found in it."""
    picture = 0.75 * _grey(image)
    for mask, colour in ((found & truth, _RIGHT), (found & ~truth, _WRONG), (truth & ~found, _MISSED)):
        picture[mask] = 0.35 * picture[mask] + 0.65 * np.array(to_rgb(colour))
    return picture
