"""Segmenting a volume that was read, as prediction, evaluation and animation do it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ncafast.tasks.mednca.inference import Result, decide, dims_of, infer
from ncafast.tasks.mednca.model_file import TrainedModel, least_sides
from ncafast.tasks.mednca.slices import Array, Recipe
from ncafast.tasks.mednca.volumes import Volume, check_sides


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A volume as a model sees it, and what the model says of it."""

    images: Array  # [S, C, H, W] float32
    result: Result
    labels: Array  # [S, H, W] class numbers
    spacing: tuple[float, float, float]  # mm along S, H, W

    def voxels(self, recipe: Recipe) -> dict[int, int]:
        """Number of voxels by label value."""
        return {value: int((self.labels == k).sum()) for k, value in enumerate(recipe.values, start=1)}


def slices_of(trained: TrainedModel, volume: Volume) -> Array:
    """The volume as the model takes it, [S, C, H, W] float32. Raises VolumeError if it is too small for the model."""
    if dims_of(trained.model) == 3:
        check_sides(volume.path, volume.data.shape[1:], least_sides(trained.model))
    return trained.spec.recipe.slices_of(volume).astype(np.float32)


def segment(trained: TrainedModel, volume: Volume, *, seed: int, runs: int = 1, last_steps: int = 0) -> Segmentation:
    """Segment a volume; see `infer`. Raises VolumeError if it is too small for the model."""
    images = slices_of(trained, volume)
    options = {"seed": seed, "runs": runs, "group": trained.spec.group, "last_steps": last_steps}
    result = infer(trained.model, torch.from_numpy(images), **options)
    labels = decide(result.probability).numpy()
    return Segmentation(images, result, labels, trained.spec.recipe.slice_spacing(volume.spacing))
