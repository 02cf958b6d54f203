"""Segmenting new images: a NIfTI label map beside each one, in its own geometry, and a picture to
look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ncafast.tasks.mednca import pictures
from ncafast.tasks.mednca.config import PredictConfig
from ncafast.tasks.mednca.inference import decide, probabilities
from ncafast.tasks.mednca.model_file import TrainedModel, load_model
from ncafast.tasks.mednca.pairs import Skipped, list_nifti, stem
from ncafast.tasks.mednca.slices import Array
from ncafast.tasks.mednca.volumes import VolumeError, read_image, write_labels
from ncafast.train.machine import resolve_device
from ncafast.train.outputs import check_folder
from ncafast.train.texts import printable


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was written for one image."""

    image: Path
    labels: Path
    overlay: Path | None
    voxels: dict[int, int]
    """Number of voxels by label value."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was written, and which images could not be used."""

    written: tuple[Prediction, ...]
    skipped: tuple[Skipped, ...]


def predict(config: PredictConfig) -> Predictions:
    """Segment an image or every image of a folder.

    The label map has the image's spatial shape, affine and header geometry; with a folder it gets
    the image's name.
    Raises ValueError if no image can be used.
    """
    if config.runs < 1:
        raise ValueError(f"runs={config.runs} is not allowed; give a whole number from 1")
    jobs = _jobs(config)
    trained = load_model(config.model, resolve_device(config.device))
    written: list[Prediction] = []
    skipped: list[Skipped] = []
    for source, target, overlay in tqdm(jobs, "segmenting", unit="volume", disable=not config.progress):
        try:
            written.append(_segment(trained, source, target, overlay, config))
        except VolumeError as error:
            skipped.append(Skipped(source, str(error)))
            if len(jobs) > 1:
                tqdm.write(printable(f"skipped: {error}"))
    if not written:
        raise ValueError(
            skipped[0].reason if len(jobs) == 1 else f"none of the {len(jobs)} images can be used; see the lines above"
        )
    return Predictions(tuple(written), tuple(skipped))


def _jobs(config: PredictConfig) -> list[tuple[Path, Path, Path]]:
    """(image, label map to write, overlay to write) for every image."""
    one_file = config.output.name.lower().endswith((".nii", ".nii.gz"))
    if config.input.is_dir():
        if one_file:
            raise ValueError(f"{config.output}: the input is a folder, so --output must be a folder too")
        jobs = [(path, config.output / path.name) for path in list_nifti(config.input)]
    else:
        target = config.output if one_file else config.output / config.input.name
        jobs = [(config.input, target)]
    check_folder("--output", config.output.parent if one_file else config.output)
    for source, target in jobs:
        if target.resolve() == source.resolve():
            raise ValueError(f"{target}: would overwrite the image itself; choose another --output")
        if target.is_dir():
            raise ValueError(f"--output {config.output}: {target} is a folder; choose another place for the label map")
    stems = Counter(stem(target) for _, target in jobs)
    return [(source, target, _overlay(target, stems[stem(target)] > 1)) for source, target in jobs]


def _overlay(target: Path, shared: bool) -> Path:
    """Where the picture beside a label map goes: a.png, but a.nii.png where there is an a.nii.gz too."""
    return target.with_name(f"{target.name if shared else stem(target)}.png")


def _segment(trained: TrainedModel, source: Path, target: Path, overlay: Path, config: PredictConfig) -> Prediction:
    recipe = trained.recipe
    volume = read_image(source, recipe.channels)
    images = recipe.slices_of(volume).astype(np.float32)
    found = segment(trained, images, seed=config.seed, runs=config.runs)
    write_labels(target, recipe.to_volume(found), source)
    if config.overlay:
        pixel = recipe.slice_spacing(volume.spacing)[1:]
        pictures.write_png(overlay, draw(trained, images, found, None, pixel, source.name))
    counts = {value: int((found == k).sum()) for k, value in enumerate(recipe.values, start=1)}
    return Prediction(source, target, overlay if config.overlay else None, counts)


def segment(trained: TrainedModel, images: Array, *, seed: int, runs: int) -> Array:
    """Images [S, C, H, W] float32 -> class numbers [S, H, W] uint8."""
    options = {"seed": seed, "runs": runs, "group": trained.group}
    return decide(probabilities(trained.model, torch.from_numpy(images), **options)).numpy()


def draw(
    trained: TrainedModel,
    images: Array,  # [S, C, H, W]
    found: Array,  # [S, H, W]
    truth: Array | None,
    pixel: Sequence[float],
    title: str,
) -> Array:
    """The overlay of the slice with most segmented (or true) pixels; the middle one if there are
    none."""
    area = np.count_nonzero(found if truth is None else truth, axis=(1, 2))
    index = int(area.argmax()) if area.any() else len(area) // 2
    return pictures.overlay(
        images[index, 0],
        found[index],
        None if truth is None else truth[index],
        names=[f"label {value}" for value in trained.recipe.values],
        axis=trained.recipe.axis,
        pixel=(pixel[0], pixel[1]),
        title=f"{title}, slice {index}",
    )
