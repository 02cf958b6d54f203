"""Pictures for people: slices with contours or a probability over them, and planes through a volume.

Of a volume, a 2-D model's pictures show the slice with most labels, a 3-D model's three planes through the middle.
Slices are shown as a viewer shows them: the patient's top or front is up, and letters at the edge name the sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from ncafast.tasks.mednca.inference import Segmentation
from ncafast.tasks.mednca.options import Axis
from ncafast.tasks.mednca.slices import AXES, Recipe
from ncafast.utils.texts import printable
from ncafast.viz import charts, overlays
from ncafast.viz.figures import pixels_of
from ncafast.viz.overlays import PREDICTION, draw_labels, outline, put_legend

Array = np.ndarray[Any, Any]

_LOSSES = {"loss": ("Dice loss + cross-entropy", "#3a6ea5"), "dice_loss": ("Dice loss", "#8fb8de")}
_DICE = {"val_dice": ("mean over held-out volumes", PREDICTION)}
PANELS = (  # of curves.png
    charts.Panel("training loss", _LOSSES, {"ylim": (0, None)}, legend="upper right"),
    charts.Panel("held-out Dice", _DICE, {"ylim": (0, 1)}, marks_best=True, legend="lower right"),
)
_PANEL = 3.2  # inches
_MOST = 0.5  # the largest deviation that numbers from 0 to 1 can have
_SIDES = {"sagittal": "PAIS", "coronal": "LRIS", "axial": "LRPA"}  # left, right, bottom, top


def overlay(
    image: Array,  # [H, W] 0..1
    prediction: Array,  # [H, W] class numbers
    truth: Array | None = None,  # [H, W] class numbers
    *,
    names: Sequence[str] = ("label",),
    axis: Axis = "axial",
    pixel: tuple[float, float] = (1.0, 1.0),
    title: str = "",
) -> Array:
    """Two panels, the image alone and with contours, as [height, width, 3] uint8.

    Prediction is dashed and truth solid; with one class they differ in colour, with several each class has its own.
    ``pixel`` is the size in mm along H and W. ``names`` name the classes in the legend.
    """
    return overlays.contours(
        partial(show_slice, image=image, axis=axis, pixel=pixel),
        prediction.T,
        None if truth is None else truth.T,
        names=names,
        tall=tallness(image, pixel),
        title=title,
    )


def tallness(image: Array, pixel: tuple[float, float]) -> float:
    """Height over width of a slice as it is shown."""
    return (image.shape[1] * pixel[1]) / (image.shape[0] * pixel[0])


def show_slice(axes: Axes, image: Array, axis: Axis, pixel: tuple[float, float]) -> None:
    """The first slice axis runs to the right, the second upwards."""
    axes.imshow(image.T, cmap="gray", vmin=0, vmax=1, origin="lower", aspect=pixel[1] / pixel[0])
    axes.set(xticks=[], yticks=[])
    axes.autoscale(False)
    axes.spines[:].set_visible(False)
    spots = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"),
             (0.5, 0.02, "center", "bottom"), (0.5, 0.98, "center", "top"))  # fmt: skip
    for letter, (x, y, across, up) in zip(_SIDES[axis], spots, strict=True):
        text = axes.text(x, y, letter, transform=axes.transAxes, ha=across, va=up)
        text.set(color="#f8d66d", fontsize=10, weight="bold")
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])  # on bright tissue


def probability(
    image: Array,  # [H, W] 0..1
    plane: Array,  # [H, W] 0..1
    text: str,
    axis: Axis,
    pixel: tuple[float, float],
) -> Array:
    """A probability over a slice, with its scale and a line of text: [height, width, 3] uint8."""
    options = {"origin": "lower", "aspect": pixel[1] / pixel[0]}
    show = partial(show_slice, image=image, axis=axis, pixel=pixel)
    return overlays.probability(show, plane.T, text, tallness(image, pixel), **options)


@dataclass(frozen=True, slots=True)
class Plane:
    """Where a volume in canonical orientation is cut."""

    axis: Axis
    index: int
    pixel: tuple[float, float]  # mm along the two other axes

    def of(self, volume: Array) -> Array:
        """What of [X, Y, Z] lies in the plane, the axes in this order."""
        return volume.take(self.index, AXES.index(self.axis))


def draw(segmentation: Segmentation, title: str, labels: Array | None = None) -> Array:
    """A picture of a segmentation, and of the true labels [S, H, W] if they are known, [height, width, 3] uint8."""
    recipe = segmentation.recipe
    planes = choose(recipe, segmentation.dims, segmentation.labels if labels is None else labels, segmentation.spacing)
    image, prediction = recipe.to_canonical(segmentation.images[:, 0]), recipe.to_canonical(segmentation.labels)
    truth = None if labels is None else recipe.to_canonical(labels)
    names = [recipe.name_of(value) for value in recipe.values]
    if segmentation.dims == 2:
        (plane,) = planes
        shown = plane.of(image), plane.of(prediction), None if truth is None else plane.of(truth)
        title = f"{title}, slice {plane.index}"
        return overlay(*shown, names=names, axis=plane.axis, pixel=plane.pixel, title=title)
    figure, panels = _figure(planes, image, rows=2)
    for (plain, drawn), plane in zip(panels.T, planes, strict=True):
        for axes in (plain, drawn):
            show_slice(axes, plane.of(image), plane.axis, plane.pixel)
        plain.set_title(f"{plane.axis}, {plane.index}", fontsize=10, color="0.35")
        truth_plane = None if truth is None else plane.of(truth).T
        handles = draw_labels(drawn, plane.of(prediction).T, truth_plane, names)
    put_legend(figure, handles)
    figure.suptitle(printable(title), fontsize=12, parse_math=False)  # it holds a file's name
    figure.subplots_adjust(0.02, 0.07, 0.98, 0.9, wspace=0.04, hspace=0.04)
    return pixels_of(figure)


def draw_uncertainty(segmentation: Segmentation, variances: Mapping[str, Array], title: str) -> Array:
    """A picture of variances [S, H, W] of probabilities, by what they are over: deviations over the image, in rows."""
    recipe = segmentation.recipe
    planes = choose(recipe, segmentation.dims, segmentation.labels, segmentation.spacing)
    image, prediction = recipe.to_canonical(segmentation.images[:, 0]), recipe.to_canonical(segmentation.labels)
    figure, panels = _figure(planes, image, rows=len(variances), margin=1.2)
    border = Line2D([], [], color="white", linewidth=1)
    for row, (name, variance) in zip(panels, variances.items(), strict=True):
        for axes, plane in zip(row, planes, strict=True):
            show_slice(axes, plane.of(image), plane.axis, plane.pixel)
            deviation = np.sqrt(plane.of(recipe.to_canonical(variance))).T
            aspect = plane.pixel[1] / plane.pixel[0]
            strength = np.clip(4 * deviation, 0, 0.9)  # the image shows where the model is sure
            axes.imshow(deviation, "plasma", vmin=0, vmax=_MOST, alpha=strength, origin="lower", aspect=aspect)
            outline(axes, plane.of(prediction).T > 0, border)
            axes.set_title(f"over {name}: {plane.axis}, {plane.index}", fontsize=8)
    figure.subplots_adjust(0.02, 0.03, 0.84, 0.88, wspace=0.04, hspace=0.12)
    bar = figure.colorbar(ScalarMappable(Normalize(0, _MOST), "plasma"), cax=figure.add_axes((0.87, 0.2, 0.02, 0.5)))
    bar.ax.set_title("standard\ndeviation of\nprobability", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(printable(title), fontsize=10, parse_math=False)
    return pixels_of(figure)


def choose(recipe: Recipe, dims: int, labels: Array, spacing: Sequence[float]) -> list[Plane]:
    """The `fullest` slice (dims=2), or for each axis the plane in the middle of what is labelled, sagittal, coronal,
    axial; the middle of the volume where nothing is. ``labels`` is [S, H, W]."""
    if dims == 2:
        return [Plane(recipe.axis, fullest(areas(labels)), (spacing[1], spacing[2]))]
    canonical = recipe.to_canonical(labels)
    size = list(spacing[1:])
    size.insert(recipe.slice_axis, spacing[0])
    planes = []
    for number, name in enumerate(AXES):
        rest = [other for other in range(3) if other != number]
        area = np.count_nonzero(canonical, axis=tuple(rest))
        index = int(np.searchsorted(area.cumsum(), area.sum() / 2)) if area.any() else len(area) // 2
        planes.append(Plane(name, index, (size[rest[0]], size[rest[1]])))
    return planes


def areas(labels: Array) -> Array:
    """Pixels of each class in each slice, [S, 255], of class numbers [S, H, W]."""
    return np.stack([np.bincount(plane.reshape(-1), minlength=256)[1:] for plane in labels])


def fullest(found: Array) -> int:
    """The slice in which most classes are, and among several the one with most labelled pixels; the middle one where
    nothing is. ``found`` has the pixels by slice and class, [S, K]."""
    if not found.any():
        return len(found) // 2
    return max(range(len(found)), key=lambda number: (np.count_nonzero(found[number]), found[number].sum()))


def _figure(planes: Sequence[Plane], image: Array, rows: int, margin: float = 0.9) -> tuple[Figure, Array]:
    """A figure with `rows` panels for each plane, [rows, planes]."""
    tall = max(min(max(tallness(plane.of(image), plane.pixel), 0.6), 1.6) for plane in planes)
    width = max(_PANEL * len(planes), 5.0)
    figure = Figure(figsize=(width, rows * _PANEL * tall + margin), dpi=110)
    return figure, figure.subplots(rows, len(planes), squeeze=False)
