"""Pictures for people: outlines of what was found over an image, and its probability as it appears."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from matplotlib.axes import Axes
from torch import Tensor

from ncafast.models import CascadeNCA
from ncafast.tasks.cascades import SHOWN, stages
from ncafast.tasks.segmentation.recipe import Array, Recipe
from ncafast.viz import charts, overlays
from ncafast.viz.captions import Frame

_LOSS = {"loss": ("training loss", "#3a6ea5")}
_DICE = {"val_dice": ("mean over held-out images", overlays.PREDICTION)}
PANELS = (  # of curves.png
    charts.Panel("training loss", _LOSS, {"ylim": (0, None)}, legend="upper right"),
    charts.Panel("held-out Dice", _DICE, {"ylim": (0, 1)}, marks_best=True, legend="lower right"),
)


def overlay(pixels: Array, labels: Array, recipe: Recipe, title: str, truth: Array | None = None) -> Array:
    """An image [H, W, 3] with the outlines of class numbers [H, W] and of the true ones: [height, width, 3] uint8."""
    pixels, labels = SHOWN.shrunk(pixels), SHOWN.shrunk_target(labels)
    truth = None if truth is None else SHOWN.shrunk_target(truth)
    tall = pixels.shape[0] / pixels.shape[1]
    show = partial(_show, pixels=pixels)
    return overlays.contours(show, labels, truth, names=recipe.names, tall=tall, title=title)


def film(
    pixels: Array,
    levels: Sequence[Tensor],  # of each level, [n, K, h, w] logits after every so many steps
    label: int,
    recipe: Recipe,
    *,
    model: CascadeNCA,
    every: int,
) -> Iterator[Frame]:
    """A frame for every state: the probability of a class over the image [H, W, 3]."""
    height, width = pixels.shape[:2]
    show = partial(_show, pixels=pixels)
    for logits, text, done in stages(model, levels, every, (height, width)):
        plane = logits[label].sigmoid().numpy()
        yield Frame(overlays.probability(show, plane, recipe.names[label], height / width), text, done)


def _show(axes: Axes, pixels: Array) -> None:
    axes.imshow(pixels)
    axes.set(xticks=[], yticks=[])
    axes.autoscale(False)
    axes.spines[:].set_visible(False)
