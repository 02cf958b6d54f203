"""Segmenting one volume: the only place that decides what the model sees together.

The models normalise by the statistics of what they are given, in evaluation too, so the grouping of slices changes the
result. Slices far apart are grouped (every n-th of the volume), so that each group resembles the mixed batches of
training. One model trained on batches of 8 scored a Dice of 0.839 on 24 held-out hippocampi one slice at a time, and
0.857 to 0.858 in groups of 4, 8, 16, 32 or whole volumes; the mean of 5 runs in groups of 16 scored 0.863.

A 3-D model sees the volume whole. Several runs are one batch, whose samples differ in their fire masks alone.

Where not even one slice, or the volume, fits into memory, it goes in tiles (see `tiled`), with the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncafast.free_memory import require
from ncafast.models import MedNCA
from ncafast.models.memory import fitting_batch
from ncafast.nifti import VolumeError, by, read_bytes
from ncafast.tasks.mednca.model_file import Model, Spec, TrainedModel, dims_of, least_sides
from ncafast.tasks.mednca.slices import Array, Recipe, without_contrast
from ncafast.tasks.mednca.tiled import check_tiles, in_tiles, logits
from ncafast.tasks.mednca.volumes import Volume, check_sides, read_grid
from ncafast.tasks.planes import decide, padded, padded_size
from ncafast.tasks.stopping import Stopping
from ncafast.uncertainty.result import Moments
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
    result: Result | None  # None where nothing was asked for but labels

    def voxels(self) -> dict[int, int]:
        """Number of voxels by label value."""
        counts = np.zeros(256, np.int64)
        for part in self.labels:
            counts += np.bincount(part.reshape(-1), minlength=256)
        return {value: int(counts[k]) for k, value in enumerate(self.recipe.values, start=1)}


def read(
    trained: TrainedModel, paths: Sequence[Path], channels: tuple[int, ...] | None = None, scratch: Path | None = None
) -> Volume:
    """`Recipe.read`, but a volume that the model has no memory for raises VolumeError before it is read.

    With a scratch folder that is one of which no tile fits.
    """
    recipe = trained.spec.recipe
    if grid := read_grid(paths[0], recipe.geometry):
        sides = list(grid[0])
        count = sides.pop(recipe.slice_axis)
        size = seen_size(trained.model, count, sides)
        try:
            fitting_batch(trained.model, 1, size) if scratch is None else check_tiles(trained.model, size)
        except MemoryError as error:
            raise VolumeError(f"{paths[0]}: {error}") from None
    return recipe.read(paths, channels)


def needs_tiles(trained: TrainedModel, path: Path, scratch: Path) -> bool:
    """Whether a file, or one slice of it, fits into memory in parts only, which a note says. Raises VolumeError if not
    even a tile does."""
    recipe = trained.spec.recipe
    if not (grid := read_grid(path, recipe.geometry)):
        return False
    sides = list(grid[0])
    count = sides.pop(recipe.slice_axis)
    size = seen_size(trained.model, count, sides)
    probabilities = 4 * len(recipe.values) * math.prod(grid[0])
    try:
        fitting_batch(trained.model, 1, size)
        require(read_bytes(grid[0], len(recipe.channels)) + probabilities, f"segmenting {by(grid[0])} voxels at once")
    except MemoryError as whole:
        try:
            check_tiles(trained.model, size)
        except MemoryError as error:
            raise VolumeError(f"{path}: {error}") from None
        note(in_tiles(whole, scratch))
        return True
    return False


def seen_size(model: Model, count: int, sides: Sequence[int]) -> list[int]:
    """Cells along each axis of what the model sees of so many slices: a padded slice, or the volume."""
    return [padded_size(side, model.scale) for side in sides] if isinstance(model, MedNCA) else [count, *sides]


def slices_of(trained: TrainedModel, volume: Volume) -> Array:
    """The volume as the model takes it, [S, C, H, W] float16. Raises VolumeError if it is too small for the model, or
    without contrast."""
    if dims_of(trained.model) == 3:
        check_sides(volume.path, volume.shape, least_sides(trained.model))
    slices = trained.spec.recipe.slices_of(volume)
    if not slices.any():
        raise without_contrast(volume.path)
    return slices


def segment(trained: TrainedModel, volume: Volume, **options: Any) -> Segmentation:
    """Segment a volume; see `infer` for the options. Raises VolumeError if it is too small for the model, or too large
    for memory."""
    path, images, spacing = volume.path, slices_of(trained, volume), trained.spec.recipe.slice_spacing(volume.spacing)
    del volume  # its intensities are not needed any more, if the caller does not hold them
    try:
        return segment_slices(trained.model, trained.spec, images, spacing, **options)
    except (MemoryError, VolumeError) as error:
        raise VolumeError(f"{path}: {error}") from None


def segment_slices(
    model: Model, spec: Spec, images: Array, spacing: tuple[float, float, float], **options: Any
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
        Padded slices [runs * s, C, H', W'], or volumes [runs, s, H, W, C].
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
    scratch: Path | None = None,
    stopping: Stopping | None = None,
) -> Result:
    """Segment a volume, given as its slices.

    Args:
        model: that does it.
        images: the slices, on the CPU.
        seed: of the cells that fire.
        runs: how many times, with other cells that fire.
        group: slices that a 2-D model sees together.
        last_steps: of the finest level, whose variance is measured; 0 measures none.
        scratch: folder for states that do not fit into memory; None refuses them.
        stopping: where runs stop; None means after the model's own steps.

    Raises:
        MemoryError: it does not fit, without a folder or not even in tiles.
        VolumeError: last_steps are asked for where tiles are needed.
    """
    shape = (images.shape[0], model.classes if isinstance(model, MedNCA) else model.output_channels, *images.shape[2:])
    wanted = (True, runs > 1, last_steps > 0)  # the others are 0, and take no memory
    results = [torch.zeros(shape if want else ()).expand(shape) for want in wanted]
    flat = isinstance(model, MedNCA)
    fits, run = _fitting(model, images, min(group, len(images)) if flat else 1, runs, scratch, stopping or Stopping())
    parts = groups(len(images), min(fits, group)) if flat else [range(len(images))]
    for number, members in enumerate(parts):
        part = images[members.start :: members.step]
        moments, waver = Moments(), torch.zeros((), dtype=torch.float64)
        at_once = max(1, min(fits // (len(part) if flat else 1), _MOST_CELLS // part[:, 0].numel()))
        for first in range(0, runs, at_once):
            masks = mix("predict", seed, first, number)
            final, last = run(part, min(at_once, runs - first), masks, last_steps)
            moments.add(final)
            if last is not None:
                waver = waver + last.var(0, correction=0).sum(0).double()
        found = (moments.mean, moments.variance, waver / runs)
        for whole, of_part, want in zip(results, found, wanted, strict=True):
            if want:
                whole[members.start :: members.step] = of_part
    return Result(*results)


_Run = Callable[[Tensor, int, int, int], tuple[Tensor, Tensor | None]]  # of slices, runs, seed, last_steps; see `_run`


def _fitting(
    model: Model, images: Tensor, each: int, runs: int, scratch: Path | None, stopping: Stopping
) -> tuple[int, _Run]:
    """How many slices, or volumes, of which a run takes `each`, the model may see at once, and how it runs. A note says
    if memory, and not what was asked for, decides."""
    size = seen_size(model, len(images), images.shape[2:])
    wanted = each * min(runs, max(1, _MOST_CELLS // (each * math.prod(size))))
    try:
        fits = fitting_batch(model, wanted, size)
    except MemoryError as error:
        if scratch is None:
            raise
        note(in_tiles(error, scratch))
        return wanted, partial(_run_tiled, model, scratch)
    if fits < wanted:
        what = "slices" if isinstance(model, MedNCA) else "runs"
        note(f"{fits} {what} at a time fit into memory and not {wanted}, which changes the result a little")
    return fits, partial(_run, model, stopping)


def _run(
    model: Model, stopping: Stopping, part: Tensor, runs: int, seed: int, last_steps: int
) -> tuple[Tensor, Tensor | None]:
    """Probabilities [runs, s, K, H, W] float64 of slices [s, C, H, W], and after the last steps,
    [last_steps, runs, s, K, H, W] float32; on the CPU."""
    if stopping.until is not None:
        first = isinstance(model, MedNCA)
        given = model_input(model, part, runs)
        found = stopping.predict(model, given if first else given.movedim(-1, 1), model.steps, seed=seed)
        logits = found.output_channels if first else found.output_channels.movedim(1, -1)
        return _probabilities(model, logits, part, runs).double(), None
    outputs = model(model_input(model, part, runs), seed=seed, last_steps=last_steps)
    if not last_steps:
        return _probabilities(model, outputs, part, runs).double(), None
    return _probabilities(model, outputs[0], part, runs).double(), _probabilities(model, outputs[1], part, runs)


def _run_tiled(
    model: Model, scratch: Path, part: Tensor, runs: int, seed: int, last_steps: int
) -> tuple[Tensor, Tensor | None]:
    """`_run` in tiles."""
    if last_steps:
        raise VolumeError(
            "what the last steps say is not kept in tiles, which it needs for its size; leave --uncertainty out "
            "(--runs works), or give it more memory"
        )
    found = logits(model, part, runs, seed=seed, scratch=scratch)
    return _probabilities(model, found, part, runs).double(), None


def _probabilities(model: Model, logits: Tensor, part: Tensor, runs: int) -> Tensor:
    """Of a model's logits for slices [s, C, H, W]: [..., runs, s, K, H, W] float32 on the CPU."""
    if isinstance(model, MedNCA):
        height, width = part.shape[-2:]
        logits = logits.unflatten(-4, (runs, -1))[..., :height, :width]
    else:
        logits = logits.movedim(-1, -4).transpose(-4, -3)  # [..., runs, s, H, W, K] -> [..., runs, s, K, H, W]
    return logits.sigmoid().float().cpu()
