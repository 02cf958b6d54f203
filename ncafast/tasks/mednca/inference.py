"""Segmenting one volume: the only place that decides what the model sees together.

The models normalise by the statistics of what they are given, in evaluation too, so the grouping of slices changes the
result. Slices far apart are grouped (every n-th of the volume), so that each group resembles the mixed batches of
training. One model trained on batches of 8 scored a Dice of 0.839 on 24 held-out hippocampi one slice at a time, and
0.857 to 0.858 in groups of 4, 8, 16, 32 or whole volumes; the mean of 5 runs in groups of 16 scored 0.863.

A 3-D model sees the volume whole. Several runs are one batch, whose samples differ in their fire masks alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ncafast.models import MedNCA
from ncafast.models.memory import fitting_batch
from ncafast.nifti import VolumeError
from ncafast.tasks.mednca.batches import padded, padded_size
from ncafast.tasks.mednca.model_file import Model, Spec, TrainedModel, dims_of, least_sides
from ncafast.tasks.mednca.slices import Array, Recipe
from ncafast.tasks.mednca.volumes import Volume, check_sides, read_grid
from ncafast.utils.progress import note
from ncafast.utils.seeds import mix

_MOST_CELLS = 2**23  # of one batch, where runs can be divided: 1 GB for two states of 16 channels


@dataclass(frozen=True, slots=True)
class Result:
    """What several runs say of one volume."""

    probability: Tensor
    """Of each class, the mean over the runs, [S, K, H, W] float32."""
    runs_variance: Tensor
    """Variance of it over the runs (divided by their number), the same shape."""
    steps_variance: Tensor
    """Variance over the last steps of one run, the mean over the runs, the same shape; 0 without last_steps."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A volume as a model sees it, and what the model says of it."""

    recipe: Recipe
    dims: int  # of the model
    images: Array  # [S, C, H, W], float16 or float32
    labels: Array  # [S, H, W] class numbers
    spacing: tuple[float, float, float]  # mm along S, H, W
    result: Result

    def voxels(self) -> dict[int, int]:
        """Number of voxels by label value."""
        return {value: int((self.labels == k).sum()) for k, value in enumerate(self.recipe.values, start=1)}


def read(trained: TrainedModel, paths: Sequence[Path], channels: tuple[int, ...] | None = None) -> Volume:
    """`Recipe.read`, but a volume that the model has no memory for raises VolumeError before it is read."""
    recipe = trained.spec.recipe
    if grid := read_grid(paths[0], recipe.geometry):
        sides = list(grid[0])
        count = sides.pop(recipe.slice_axis)
        try:
            fitting_batch(trained.model, 1, seen_size(trained.model, count, sides))
        except MemoryError as error:
            raise VolumeError(f"{paths[0]}: {error}") from None
    return recipe.read(paths, channels)


def seen_size(model: Model, count: int, sides: Sequence[int]) -> list[int]:
    """Cells along each axis of what the model sees of so many slices: a padded slice, or the volume."""
    return [padded_size(side, model.scale) for side in sides] if isinstance(model, MedNCA) else [*sides, count]


def slices_of(trained: TrainedModel, volume: Volume) -> Array:
    """The volume as the model takes it, [S, C, H, W] float16. Raises VolumeError if it is too small for the model."""
    if dims_of(trained.model) == 3:
        check_sides(volume.path, volume.shape, least_sides(trained.model))
    return trained.spec.recipe.slices_of(volume)


def segment(trained: TrainedModel, volume: Volume, *, seed: int, runs: int = 1, last_steps: int = 0) -> Segmentation:
    """Segment a volume; see `infer`. Raises VolumeError if it is too small for the model, or too large for memory."""
    path, images, spacing = volume.path, slices_of(trained, volume), trained.spec.recipe.slice_spacing(volume.spacing)
    del volume  # its intensities are not needed any more, if the caller does not hold them
    try:
        return segment_slices(trained.model, trained.spec, images, spacing, seed=seed, runs=runs, last_steps=last_steps)
    except MemoryError as error:
        raise VolumeError(f"{path}: {error}") from None


def segment_slices(
    model: Model, spec: Spec, images: Array, spacing: tuple[float, float, float], **options: int
) -> Segmentation:
    """Segment a volume given as its slices; see `infer` for the options."""
    result = infer(model, torch.from_numpy(images), group=spec.group, **options)
    labels = torch.cat([decide(part) for part in result.probability.split(spec.group)])
    return Segmentation(spec.recipe, dims_of(model), images, labels.numpy(), spacing, result)


def model_input(model: Model, slices: Tensor, runs: int = 1) -> Tensor:
    """Slices [s, C, H, W] as the model takes them, so many times over, on its device.

    Args:
        model: says which of the two it is.
        slices: on the CPU.
        runs: samples of a volume, or copies of all slices one after the other.

    Returns:
        Padded slices [runs * s, C, H', W'], or volumes [runs, H, W, s, C].
    """
    device = next(model.parameters()).device
    if isinstance(model, MedNCA):
        size = [padded_size(side, model.scale) for side in slices.shape[-2:]]
        return padded(slices.float(), size).repeat(runs, 1, 1, 1).to(device)
    return slices.float().permute(0, 2, 3, 1)[None].expand(runs, -1, -1, -1, -1).to(device)


def groups(count: int, size: int) -> list[range]:
    """Divide slices 0..count-1 into strided groups of at most ``size``: a function of the two numbers alone."""
    number = -(-count // size)
    return [range(start, count, number) for start in range(number)]


@torch.no_grad()
def infer(
    model: Model,
    images: Tensor,  # [S, C, H, W]
    *,
    seed: int = 0,
    runs: int = 1,
    group: int = 16,
    last_steps: int = 0,
) -> Result:
    """Segment a volume, given as its slices, with ``runs`` draws of firing cells."""
    shape = (images.shape[0], model.classes if isinstance(model, MedNCA) else model.output_channels, *images.shape[2:])
    wanted = (True, runs > 1, last_steps > 0)  # the others are 0, and take no memory
    results = [torch.zeros(shape if want else ()).expand(shape) for want in wanted]
    flat = isinstance(model, MedNCA)
    fits = _fitting(model, images, min(group, len(images)) if flat else 1, runs)
    parts = groups(len(images), min(fits, group)) if flat else [range(len(images))]
    for number, members in enumerate(parts):
        part = images[members.start :: members.step]
        total = squares = waver = torch.zeros((), dtype=torch.float64)
        at_once = max(1, min(fits // (len(part) if flat else 1), _MOST_CELLS // part[:, 0].numel()))
        for first in range(0, runs, at_once):
            masks = mix("predict", seed, first, number)
            final, last = _run(model, part, min(at_once, runs - first), seed=masks, last_steps=last_steps)
            total = total + final.sum(0)
            squares = squares + final.square().sum(0)
            if last is not None:
                waver = waver + last.var(0, correction=0).sum(0).double()
        mean = total / runs
        found = (mean, (squares / runs - mean.square()).clamp(min=0), waver / runs)
        for whole, of_part, want in zip(results, found, wanted, strict=True):
            if want:
                whole[members.start :: members.step] = of_part
    return Result(*results)


def _fitting(model: Model, images: Tensor, each: int, runs: int) -> int:
    """How many slices, or volumes, of which a run takes `each`, the model may see at once. A note says if memory, and
    not what was asked for, limits them."""
    size = seen_size(model, len(images), images.shape[2:])
    wanted = each * min(runs, max(1, _MOST_CELLS // (each * math.prod(size))))
    fits = fitting_batch(model, wanted, size)
    if fits < wanted:
        what = "slices" if isinstance(model, MedNCA) else "runs"
        note(f"{fits} {what} at a time fit into memory and not {wanted}, which changes the result a little")
    return fits


def decide(probability: Tensor) -> Tensor:
    """[S, K, H, W] probabilities -> [S, H, W] uint8 class numbers: the likeliest class above 0.5, else 0."""
    best, index = probability.max(dim=1)
    return torch.where(best > 0.5, index + 1, 0).to(torch.uint8)


def _run(model: Model, part: Tensor, runs: int, *, seed: int, last_steps: int) -> tuple[Tensor, Tensor | None]:
    """Probabilities [runs, s, K, H, W] float64 of slices [s, C, H, W], and after the last steps,
    [last_steps, runs, s, K, H, W] float32; on the CPU."""
    height, width = part.shape[-2:]
    outputs = model(model_input(model, part, runs), seed=seed, last_steps=last_steps)

    def probabilities(each: Tensor) -> Tensor:
        if isinstance(model, MedNCA):
            each = each.unflatten(-4, (runs, -1))[..., :height, :width]
        else:
            each = each.movedim(-1, -4).transpose(-4, -3)  # [..., runs, H, W, s, K] -> [..., runs, s, K, H, W]
        return each.sigmoid().float().cpu()

    if not last_steps:
        return probabilities(outputs).double(), None
    return probabilities(outputs[0]).double(), probabilities(outputs[1])
