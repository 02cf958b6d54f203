"""A film of one slice: the segmentation as it appears over the image, or all channels of its cells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncafast.models import MedNCA
from ncafast.nifti import VolumeError
from ncafast.tasks.label_views import label_views
from ncafast.tasks.mednca import pictures
from ncafast.tasks.mednca.geometry import say_contradictions
from ncafast.tasks.mednca.inference import model_input, read, segment, slices_of
from ncafast.tasks.mednca.inputs import find_inputs
from ncafast.tasks.mednca.model_file import Model, TrainedModel
from ncafast.tasks.mednca.options import AnimateConfig, Axis
from ncafast.tasks.mednca.slices import Array
from ncafast.utils.option_checks import refused
from ncafast.viz.captions import Frame
from ncafast.viz.pixels import enlarged, mosaic
from ncafast.viz.styles import style_of
from ncafast.viz.views import View, class_legend
from ncafast.viz.visual import Visual

_FULL = 0.99  # share of a film's values that are within full colour


@dataclass(frozen=True, slots=True)
class Stage:
    """The slice after one step."""

    level: str
    step: int
    steps: int
    """Of the level."""
    state: Tensor
    """The slice's cells, [C, H, W] at the image's size: those of coarse levels are shown enlarged."""


def frames(trained: TrainedModel, options: AnimateConfig) -> list[Frame]:
    """The frames of one slice's segmentation.

    Raises:
        ValueError: options or files that cannot be used.
    """
    recipe, model = trained.spec.recipe, trained.model
    if options.label is not None and options.label not in recipe.values:
        raise refused("label", options.label, f"the model knows {', '.join(map(str, recipe.values))}")
    if options.every > min(model.steps):
        raise refused("every", options.every, f"a level of the model takes {min(model.steps)} steps, so give no more")
    case, *more = find_inputs(options, recipe)
    if more:
        raise refused("input", str(options.input), f"it holds {1 + len(more)} images; give one of them")
    if case.problem:
        raise VolumeError(case.problem)
    say_contradictions(case.paths, recipe.geometry)
    volume = read(trained, case.paths, options.channels)
    images = slices_of(trained, volume)
    spacing = recipe.slice_spacing(volume.spacing)
    index = options.slice
    if index is None:
        (plane,) = pictures.choose(recipe, 2, segment(trained, volume, seed=options.seed).labels, spacing)
        index = plane.index
    if index >= len(images):
        raise refused("slice", index, f"{options.input} has {len(images)} slices; give one from 0 to {len(images) - 1}")
    seen = list(stages(model, torch.from_numpy(images), index, every=options.every, seed=options.seed))
    if options.show == "channels":
        shown = channels(seen, options.zoom, dark=style_of(options.style).is_dark)
    else:
        number = recipe.values.index(options.label) if options.label is not None else 0
        name, pixel = recipe.name_of(recipe.values[number]), (spacing[1], spacing[2])
        shown = segmentation(seen, images[index, 0], read_from(model) + number, name, recipe.axis, pixel)
    labels = (f"{stage.level}, step {stage.step} of {stage.steps}" for stage in seen)
    return [Frame(*each, number / len(seen)) for number, each in enumerate(zip(shown, labels, strict=True), start=1)]


@torch.no_grad()
def stages(
    model: Model,
    images: Tensor,  # [S, C, H, W]
    index: int,
    *,
    every: int = 1,
    seed: int = 0,
) -> Iterator[Stage]:
    """The states of slice `index` after every `every` steps of each level, from the coarsest on.

    A 2-D model runs the slice alone, so the end may differ a little from a prediction; a 3-D model runs the volume.
    """
    height, width = images.shape[-2:]
    slices = images[index, None] if isinstance(model, MedNCA) else images
    _, levels = model(model_input(model, slices), seed=seed, states=every)
    if isinstance(model, MedNCA):
        factors, names = (model.scale, 1), ["coarse level", "fine level"]
    else:
        factors = tuple(model.scale_factor**level for level in reversed(range(model.levels)))
        names = [f"level {number} of {model.levels}" for number in range(1, model.levels + 1)]
    for name, states, steps, factor in zip(names, levels, model.steps, factors, strict=True):
        for number, state in enumerate(states[:, 0], start=1):  # [C, h, w], or [s, h, w, C] of a volume
            plane = state if isinstance(model, MedNCA) else state[index // factor].movedim(-1, 0)
            shown = plane.repeat_interleave(factor, 1).repeat_interleave(factor, 2)[:, :height, :width]
            yield Stage(name, number * every, steps, shown.float().cpu())


def read_from(model: Model) -> int:
    """The first channel of the state that is read as a logit."""
    return model.image_channels if isinstance(model, MedNCA) else model.input_channels


def segmentation(
    seen: Sequence[Stage],
    image: Array,  # [H, W] 0..1
    channel: int,
    name: str = "",
    axis: Axis = "axial",
    pixel: tuple[float, float] = (1.0, 1.0),
) -> list[Array]:
    """Pictures [height, width, 3] uint8: the probability in a channel of the state over the image."""
    planes = (stage.state[channel].sigmoid().numpy() for stage in seen)
    return [pictures.probability(image, plane, name, axis, pixel) for plane in planes]


def visual(
    model: Model,
    images: Tensor,  # [S, C, H, W]
    labels: Tensor,  # [S, H, W] class numbers
    index: int,
    name: str,
    classes: Sequence[str],
    spacing: Sequence[float],
    seed: int,
) -> Visual:
    """A slice after all steps of the finest level, for TensorBoard."""
    *_, last = stages(model, images, index, every=math.gcd(*model.steps), seed=seed)
    first, state = read_from(model), last.state
    views = label_views(_upright(labels[index]), _upright(state[first : first + len(classes)].sigmoid()))
    image = View("input", _upright(images[index, 0].float()), "gray", (0.0, 1.0))
    hidden, title = _upright(state[first + len(classes) :]), f"{name}, slice {index}"
    look: dict[str, Any] = {"legend": class_legend(classes), "aspect": spacing[2] / spacing[1], "title": title}
    return Visual(name, [image, *views], hidden, first + len(classes), **look)


def _upright(planes: Tensor) -> Tensor:
    """[..., H, W] as it is shown: the first axis to the right, the second upwards."""
    return planes.movedim(-2, -1).flip(-2)


def channels(seen: Sequence[Stage], scale: int, dark: bool = False) -> list[Array]:
    """Pictures [height, width, 3] uint8: every channel as a tile, blue below 0 and red above, alike in all of them."""
    values = torch.stack([stage.state for stage in seen]).abs()  # [n, C, H, W]
    limit = float(np.quantile(values.numpy(), _FULL)) or 1.0
    return [enlarged(mosaic(_upright(stage.state), limit=limit, dark=dark), scale) for stage in seen]
