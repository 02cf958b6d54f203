"""Pictures for people: a slice with its contours, the curves of a run, the automaton at work.

Slices are shown as a viewer shows them: the patient's top or front is up, and letters at the edge
name the sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from ncafast.models import MedNCA
from ncafast.tasks.mednca.config import Axis
from ncafast.tasks.mednca.data import pad_to, padded_size
from ncafast.train.texts import printable
from ncafast.viz.figures import pixels_of, write_gif, write_png

Array = np.ndarray[Any, Any]
History = Sequence[dict[str, Any]]

__all__ = ["animation", "curves", "overlay", "write_gif", "write_png"]

_TRUTH = "#35d07f"
_PREDICTION = "#ff5d8f"
_CLASS_COLOURS = (
    "#ff5d8f",
    "#4cc9f0",
    "#ffd166",
    "#b388eb",
    "#80ed99",
    "#f8961e",
    "#f72585",
    "#90e0ef",
)
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

    Prediction is dashed and truth solid; with one class they differ in colour, with several each
    class has its own. ``pixel`` is the size in mm along H and W. ``names`` name the classes in the
    legend.
    """
    panel = 4.6  # inches
    tall = panel * min(max(_tallness(image, pixel), 0.6), 1.6)
    figure = Figure(figsize=(2 * panel + 0.2, tall + 1.0), dpi=110)
    plain, drawn = figure.subplots(1, 2)
    for axes, heading in ((plain, "image"), (drawn, "contours")):
        _show(axes, image, axis, pixel)
        axes.set_title(heading, fontsize=10, color="0.35")
    handles = []
    for number, name in enumerate(names, start=1):
        several = len(names) > 1
        own = _CLASS_COLOURS[(number - 1) % len(_CLASS_COLOURS)]
        for kind, labels, colour in (
            ("truth", truth, _TRUTH),
            ("prediction", prediction, _PREDICTION),
        ):
            if labels is None:
                continue
            line = Line2D([], [], color=own if several else colour, linewidth=2)
            line.set_linestyle("-" if kind == "truth" else "--")
            line.set_label(f"{name}: {kind}" if several else kind)
            _contour(drawn, labels == number, line)
            handles.append(line)
    figure.legend(handles=handles, loc="lower center", ncols=min(4, len(handles)), frameon=False, fontsize=10)
    figure.suptitle(printable(title), fontsize=12, parse_math=False)  # it holds a file's name
    figure.subplots_adjust(0.02, 0.13, 0.98, 0.86, wspace=0.04)
    return pixels_of(figure)


def curves(history: History, best_epoch: int | None = None) -> Array:
    """Loss and held-out Dice over the epochs, as [height, width, 3] uint8."""
    figure = Figure(figsize=(9.5, 3.8), dpi=110)
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    left.plot(
        epochs,
        [row["loss"] for row in history],
        marker="o",
        color="#3a6ea5",
        label="Dice loss + cross-entropy",
    )
    left.plot(
        epochs,
        [row["dice_loss"] for row in history],
        linestyle="--",
        color="#8fb8de",
        label="Dice loss",
    )
    left.set(title="training loss", xlabel="epoch")
    left.set_ylim(bottom=0)
    scored = [row for row in history if row.get("val_dice") is not None]
    right.plot([row["epoch"] for row in scored], [row["val_dice"] for row in scored],
               marker="o", color=_PREDICTION,
               label="mean over held-out volumes")  # fmt: skip
    best = [row for row in scored if row["epoch"] == best_epoch]
    for row in best:
        right.plot(row["epoch"], row["val_dice"], "*", markersize=15, color="#f8961e",
                   label=f"best: {row['val_dice']:.3f}")  # fmt: skip
    right.set(title="held-out Dice", xlabel="epoch", ylim=(0, 1))
    for axes, place in ((left, "upper right"), (right, "lower right")):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9, loc=place)
    figure.tight_layout()
    return pixels_of(figure)


def animation(
    model: MedNCA,
    image: torch.Tensor,  # [C, H, W]
    *,
    seed: int = 0,
    every: int = 1,
    channel: int = 0,
    axis: Axis = "axial",
    pixel: tuple[float, float] = (1.0, 1.0),
) -> list[Array]:
    """Frames [height, width, 3] uint8: the probability of class ``channel`` over the image, every
    few steps.

    First the coarse level on its small grid, then the fine one, which starts from it. Every frame
    names its step. The slice is run alone, so the end may differ a little from a prediction.
    """
    device = next(model.parameters()).device
    height, width = image.shape[-2:]
    size = [padded_size(side, model.scale) for side in (height, width)]
    with torch.no_grad():
        batch = pad_to(image[None], *size).to(device)
        _, levels = model(batch, seed=seed, states=every)
    frames = []
    for name, states, total in zip(("coarse", "fine"), levels, model.steps, strict=True):
        planes = states[:, 0, model.image_channels + channel].sigmoid().float().cpu()
        factor = model.scale if name == "coarse" else 1
        for number, plane in enumerate(planes, start=1):
            shown = plane.repeat_interleave(factor, 0).repeat_interleave(factor, 1)[:height, :width]
            text = f"{name} level, step {number * every} of {total}"
            frames.append(_frame(image[0].numpy(), shown.numpy(), text, axis, pixel))
    return frames


def _tallness(image: Array, pixel: tuple[float, float]) -> float:
    """Height over width of a slice as it is shown."""
    return (image.shape[1] * pixel[1]) / (image.shape[0] * pixel[0])


def _show(axes: Axes, image: Array, axis: Axis, pixel: tuple[float, float]) -> None:
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


def _contour(axes: Axes, mask: Array, line: Line2D) -> None:
    """The outline of a mask along its pixels' edges, in the colour and style of a line."""
    if not mask.any():
        return
    fine = np.pad(mask, 1).repeat(8, 0).repeat(8, 1).T.astype(float)
    x = (np.arange(fine.shape[1]) + 0.5) / 8 - 1.5
    y = (np.arange(fine.shape[0]) + 0.5) / 8 - 1.5
    axes.contour(
        x,
        y,
        fine,
        levels=[0.5],
        colors=[line.get_color()],
        linestyles=[line.get_linestyle()],
        linewidths=1.8,
    )


def _frame(image: Array, plane: Array, text: str, axis: Axis, pixel: tuple[float, float]) -> Array:
    figure = Figure(figsize=(4.4, min(max(4.0 * _tallness(image, pixel), 2.4), 6.4) + 0.4), dpi=90)
    axes = figure.add_axes((0.03, 0.03, 0.78, 0.86))
    _show(axes, image, axis, pixel)
    strength = 0.8 * np.clip(plane.T, 0, 1)  # no probability, no colour
    aspect = pixel[1] / pixel[0]
    axes.imshow(plane.T, "plasma", vmin=0, vmax=1, alpha=strength, origin="lower", aspect=aspect)
    scale = ScalarMappable(Normalize(0, 1), "plasma")
    bar = figure.colorbar(scale, cax=figure.add_axes((0.84, 0.12, 0.035, 0.66)), ticks=[0, 0.5, 1])
    bar.ax.set_title("probability", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    figure.text(0.42, 0.93, text, ha="center", va="center", fontsize=11)
    return pixels_of(figure)
