"""Segmenting new images: a NIfTI label map beside each one, in its own geometry, and a picture to
look at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ncafast.tasks.mednca import pictures, planes, uncertainty
from ncafast.tasks.mednca.config import PredictConfig
from ncafast.tasks.mednca.inference import Found, decide, infer
from ncafast.tasks.mednca.model_file import TrainedModel, least_sides, load_model
from ncafast.tasks.mednca.modalities import stem
from ncafast.tasks.mednca.nifti import VolumeError
from ncafast.tasks.mednca.notes import say_contradictions
from ncafast.tasks.mednca.pairs import Skipped, list_nifti
from ncafast.tasks.mednca.slices import Array
from ncafast.tasks.mednca.volumes import Volume, check_sides
from ncafast.tasks.mednca.writing import write_labels
from ncafast.train.checks import check_options, refused
from ncafast.train.machine import resolve_device
from ncafast.train.outputs import check_folder
from ncafast.train.texts import printable

_RUNS = 10  # of the pseudo-ensemble, as many as in M3D-NCA
_LAST_STEPS = 5


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was written for one image."""

    image: Path
    labels: Path
    overlay: Path | None
    voxels: dict[int, int]
    """Number of voxels by label value."""
    quality: dict[int, float] | None = None
    """The quality score NQM by label value, where --uncertainty asks for it; high means doubtful."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was written, and which images could not be used."""

    written: tuple[Prediction, ...]
    skipped: tuple[Skipped, ...]
    report: Path | None = None
    """What --uncertainty says of all images."""


def predict(config: PredictConfig) -> Predictions:
    """Segment an image or every image of a folder.

    The label map has the image's spatial shape, affine and header geometry; with a folder it gets
    the image's name.
    Raises ValueError if no image can be used.
    """
    runs = _runs(config)
    jobs = _jobs(config)
    trained = load_model(config.model, resolve_device(config.device)).with_geometry(config.geometry)
    trained.recipe.check_channels(config.channels)
    config = replace(config, last_steps=_last_steps(config, trained))
    say_contradictions([source for source, _, _ in jobs], trained.recipe.geometry)
    rows: list[dict[str, Any]] = []
    written: list[Prediction] = []
    skipped: list[Skipped] = []
    for source, target, overlay in tqdm(jobs, "segmenting", unit="volume", disable=not config.progress):
        try:
            written.append(_segment(trained, source, target, overlay, config, runs, rows))
        except VolumeError as error:
            if len(jobs) == 1:
                raise
            skipped.append(Skipped(source, str(error)))
            tqdm.write(printable(f"skipped: {error}"))
    if not written:
        raise ValueError(f"none of the {len(jobs)} images can be used; see the lines above")
    report = None
    if config.uncertainty:
        report = uncertainty.write_report(_maps_folder(config), rows, runs=runs, last_steps=config.last_steps or 0)
    return Predictions(tuple(written), tuple(skipped), report)


def _runs(config: PredictConfig) -> int:
    check_options(config, channels=0)
    runs = config.runs if config.runs is not None else _RUNS if config.uncertainty else 1
    if config.uncertainty and runs < 2:
        raise ValueError(f"runs={runs} is not allowed with --uncertainty; give a whole number from 2")
    return runs


def _last_steps(config: PredictConfig, trained: TrainedModel) -> int:
    """How many of the last steps are looked at, 0 without uncertainty."""
    most = trained.model.steps[-1]
    if not config.uncertainty:
        return 0
    if most < 2:
        raise ValueError(
            f"--uncertainty needs 2 steps whose results can differ, and {trained.path} takes {most} on its "
            "finest level; leave --uncertainty out, or train with more --steps"
        )
    last_steps = min(_LAST_STEPS, most) if config.last_steps is None else config.last_steps
    if not 2 <= last_steps <= most:
        allowed = f"the model's finest level takes {most} steps, so give " + (
            f"a whole number from 2 to {most}" if most > 2 else "2"
        )
        raise refused("last_steps", last_steps, allowed)
    return last_steps


def _maps_folder(config: PredictConfig) -> Path:
    """Apart from the label maps, so that a folder of these holds nothing else."""
    if not _names_file(config.output):
        return config.output / "uncertainty"
    return config.output.parent / f"{stem(config.output)}-uncertainty"


def _names_file(output: Path) -> bool:
    return output.name.lower().endswith((".nii", ".nii.gz"))


def _jobs(config: PredictConfig) -> list[tuple[Path, Path, Path]]:
    """(image, label map to write, overlay to write) for every image."""
    one_file = _names_file(config.output)
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


def _segment(
    trained: TrainedModel,
    source: Path,
    target: Path,
    overlay: Path,
    config: PredictConfig,
    runs: int,
    rows: list[dict[str, Any]],
) -> Prediction:
    """Write everything for one image; with uncertainty, add its row of the report."""
    recipe = trained.recipe
    volume = recipe.read(source, config.channels)
    images = slices_of(trained, volume)
    last_steps = config.last_steps or 0
    found = segment(trained, images, seed=config.seed, runs=runs, last_steps=last_steps)
    labels = decide(found.probability).numpy()
    spacing = recipe.slice_spacing(volume.spacing)
    write_labels(target, recipe.to_volume(labels), source, recipe.geometry)
    if config.overlay:
        picture = planes.draw(recipe, trained.dims, images[:, 0], labels, None, spacing, source.name)
        pictures.write_png(overlay, picture)
    nqm = None
    if config.uncertainty:
        place = _maps_folder(config), overlay.stem, trained, source
        shown = images[:, 0], labels, found, spacing
        rows.append(uncertainty.write_maps(*place, *shown, runs=runs, last_steps=last_steps))
        nqm = rows[-1]["nqm"]
    counts = {value: int((labels == k).sum()) for k, value in enumerate(recipe.values, start=1)}
    return Prediction(source, target, overlay if config.overlay else None, counts, nqm)


def slices_of(trained: TrainedModel, volume: Volume) -> Array:
    """The volume as the model takes it, [S, C, H, W] float32. Raises VolumeError if it is too small for the model."""
    if trained.dims == 3:
        check_sides(volume.path, volume.data.shape[1:], least_sides(trained.model))
    return trained.recipe.slices_of(volume).astype(np.float32)


def segment(trained: TrainedModel, images: Array, *, seed: int, runs: int, last_steps: int = 0) -> Found:
    """Images [S, C, H, W] float32 -> what `runs` runs find."""
    options = {"seed": seed, "runs": runs, "group": trained.group, "last_steps": last_steps}
    return infer(trained.model, torch.from_numpy(images), **options)
