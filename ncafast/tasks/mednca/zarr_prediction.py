"""Segmenting an image in a zarr store, of any size: read, segmented and written by slabs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ncafast.nifti import VolumeError
from ncafast.tasks.mednca import pictures
from ncafast.tasks.mednca.lazy import LazySlices, place_of
from ncafast.tasks.mednca.lazy_prediction import segment
from ncafast.tasks.mednca.model_file import TrainedModel, dims_of, least_sides
from ncafast.tasks.mednca.options import PredictConfig
from ncafast.tasks.mednca.tiled import existing
from ncafast.tasks.mednca.volumes import check_sides
from ncafast.tasks.mednca.zarr_images import ZarrImage, is_zarr, open_zarr
from ncafast.tasks.mednca.zarr_labels import ZarrLabels, check_store, new_store
from ncafast.utils.outputs import check_free
from ncafast.utils.progress import note
from ncafast.viz.figures import write_png

Array = np.ndarray[Any, Any]

_MOST_SIDE = 512  # pixels of a picture


def check(options: PredictConfig) -> None:
    """Raise ValueError for options that a zarr store cannot have."""
    given = {"--uncertainty": options.uncertainty, "--masks": options.masks, "--runs": (options.runs or 1) > 1}
    given["--until-converged"] = options.until_converged
    if wrong := [name for name, there in given.items() if there]:
        raise ValueError(f"{wrong[0]} is for NIfTI images, not for {options.input}; leave it out")


def predict(trained: TrainedModel, options: PredictConfig) -> tuple[Path, Path | None, dict[int, int]]:
    """Write the label map of a store, and a picture.

    Returns:
        The new store, the picture if one is wanted, and the number of voxels by label value.

    Raises:
        ValueError: the store cannot be read, does not fit the model, or would replace what it must not.
        MemoryError: no tile fits.
    """
    image, recipe = open_zarr(options.input), trained.spec.recipe
    target = options.output if is_zarr(options.output) else options.output / options.input.name
    picture = target.with_suffix(".png") if options.overlay else None
    check_store(target, options.input, options.overwrite)
    check_free("--output", [picture] if picture else [], options.overwrite)
    slices = LazySlices.measured(image, recipe, _channels(image, trained, options))
    if dims_of(trained.model) == 3:
        check_sides(image.path, image.shape, least_sides(trained.model))
    with new_store(target) as scratch:
        labels = ZarrLabels(scratch, image, recipe, target.stem)
        folder = existing(target.parent)
        found = segment(trained, slices, labels, seed=options.seed, folder=folder, progress=options.progress)
        if picture:
            write_png(picture, _drawn(trained, slices, labels, found, options.input.name))
    return target, picture, dict(zip(recipe.values, map(int, found.sum(0)), strict=True))


def _channels(image: ZarrImage, trained: TrainedModel, options: PredictConfig) -> tuple[int, ...]:
    recipe = trained.spec.recipe
    recipe.check_channels(options.channels)
    channels = options.channels or (tuple(range(recipe.files)) if recipe.files > 1 else recipe.channels)
    if any(channel >= image.channels for channel in channels):
        raise VolumeError(
            f"{image.path}: has {image.channels} channels, but {list(channels)} are wanted; give --channels"
        )
    return channels


def _drawn(trained: TrainedModel, slices: LazySlices, labels: ZarrLabels, found: Array, title: str) -> Array:
    """The slice that `pictures.fullest` chooses, every n-th pixel where there are many."""
    recipe = trained.spec.recipe
    index = pictures.fullest(found)
    every = math.ceil(max(slices.shape[2:]) / _MOST_SIDE)
    rows, columns = (slice(0, side, every) for side in slices.shape[2:])
    one = slice(index, index + 1)
    where = place_of(one, rows, columns, recipe)
    values = np.moveaxis(labels.read(where), recipe.slice_axis, 0)[0]
    classes = sum((values == value) * k for k, value in enumerate(recipe.values, start=1))
    if every > 1:
        note(f"the picture shows every {every}th pixel")
    _, *pixel = recipe.slice_spacing(slices.image.spacing)
    return pictures.overlay(
        slices[one, :, rows, columns][0, 0],
        classes,
        names=[recipe.name_of(value) for value in recipe.values],
        axis=recipe.axis,
        pixel=(pixel[0], pixel[1]),
        title=f"{title}, slice {index}",
    )
