"""What of a volume to show: the fullest slice for a 2-D model, three planes through the middle for a 3-D one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ncafast.tasks.mednca import pictures
from ncafast.tasks.mednca.inference import Segmentation
from ncafast.tasks.mednca.options import Axis
from ncafast.tasks.mednca.slices import AXES, Recipe
from ncafast.utils.texts import printable
from ncafast.viz.figures import pixels_of

Array = np.ndarray[Any, Any]

_PANEL = 3.2  # inches
_MOST = 0.5  # the largest deviation that numbers from 0 to 1 can have


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
        return pictures.overlay(*shown, names=names, axis=plane.axis, pixel=plane.pixel, title=title)
    figure, panels = _figure(planes, image, rows=2)
    for (plain, drawn), plane in zip(panels.T, planes, strict=True):
        for axes in (plain, drawn):
            pictures.show_slice(axes, plane.of(image), plane.axis, plane.pixel)
        plain.set_title(f"{plane.axis}, {plane.index}", fontsize=10, color="0.35")
        truth_plane = None if truth is None else plane.of(truth)
        handles = pictures.draw_labels(drawn, plane.of(prediction), truth_plane, names)
    figure.legend(handles=handles, loc="lower center", ncols=min(4, len(handles)), frameon=False, fontsize=10)
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
            pictures.show_slice(axes, plane.of(image), plane.axis, plane.pixel)
            deviation = np.sqrt(plane.of(recipe.to_canonical(variance))).T
            aspect = plane.pixel[1] / plane.pixel[0]
            strength = np.clip(4 * deviation, 0, 0.9)  # the image shows where the model is sure
            axes.imshow(deviation, "plasma", vmin=0, vmax=_MOST, alpha=strength, origin="lower", aspect=aspect)
            pictures.outline(axes, plane.of(prediction) > 0, border)
            axes.set_title(f"over {name}: {plane.axis}, {plane.index}", fontsize=8)
    figure.subplots_adjust(0.02, 0.03, 0.84, 0.88, wspace=0.04, hspace=0.12)
    bar = figure.colorbar(ScalarMappable(Normalize(0, _MOST), "plasma"), cax=figure.add_axes((0.87, 0.2, 0.02, 0.5)))
    bar.ax.set_title("deviation of\nprobability", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(printable(title), fontsize=10, parse_math=False)
    return pixels_of(figure)


def choose(recipe: Recipe, dims: int, labels: Array, spacing: Sequence[float]) -> list[Plane]:
    """The slice with most labelled pixels (dims=2), or for each axis the plane in the middle of what is labelled,
    sagittal, coronal, axial; the middle of the volume where nothing is. ``labels`` is [S, H, W]."""
    canonical = recipe.to_canonical(labels)
    size = list(spacing[1:])
    size.insert(recipe.slice_axis, spacing[0])
    planes = []
    for number, name in enumerate(AXES):
        rest = [other for other in range(3) if other != number]
        area = np.count_nonzero(canonical, axis=tuple(rest))
        index = len(area) // 2
        if area.any():
            index = int(area.argmax()) if dims == 2 else int(np.searchsorted(area.cumsum(), area.sum() / 2))
        planes.append(Plane(name, index, (size[rest[0]], size[rest[1]])))
    return planes if dims == 3 else [planes[recipe.slice_axis]]


def _figure(planes: Sequence[Plane], image: Array, rows: int, margin: float = 0.9) -> tuple[Figure, Array]:
    """A figure with `rows` panels for each plane, [rows, planes]."""
    tall = max(min(max(pictures.tallness(plane.of(image), plane.pixel), 0.6), 1.6) for plane in planes)
    width = max(_PANEL * len(planes), 5.0)
    figure = Figure(figsize=(width, rows * _PANEL * tall + margin), dpi=110)
    return figure, figure.subplots(rows, len(planes), squeeze=False)
