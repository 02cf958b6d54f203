"""Segmenting new images: a NIfTI label map beside each one, in its own geometry, and a picture to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ncafast.tasks.mednca import planes, uncertainty
from ncafast.tasks.mednca.geometry import say_contradictions
from ncafast.tasks.mednca.inference import dims_of
from ncafast.tasks.mednca.inputs import Input, find_inputs
from ncafast.tasks.mednca.modalities import stem
from ncafast.tasks.mednca.model_file import TrainedModel
from ncafast.tasks.mednca.nifti import VolumeError
from ncafast.tasks.mednca.options import PredictConfig
from ncafast.tasks.mednca.pairs import Skipped
from ncafast.tasks.mednca.segmentation import segment
from ncafast.tasks.mednca.slices import Recipe
from ncafast.tasks.mednca.writing import mask_paths, write_labels, write_masks
from ncafast.tasks.skipping import each_usable
from ncafast.utils.option_checks import refused
from ncafast.utils.outputs import check_folder, check_free
from ncafast.viz.figures import write_png

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
    others: tuple[Path, ...] = ()
    """The second and further modalities, where the image has a file for each."""
    masks: tuple[Path, ...] = ()
    """A binary mask per label, where --masks asks for them."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was written, and which images could not be used."""

    written: tuple[Prediction, ...]
    skipped: tuple[Skipped, ...]
    report: Path | None = None
    """What --uncertainty says of all images."""

    def lines(self) -> Iterator[str]:
        """What was written, for people."""
        for item in self.written:
            overlay = f", {item.overlay.name}" if item.overlay else ""
            doubt = f" (NQM {', '.join(f'{value:.3f}' for value in item.quality.values())})" if item.quality else ""
            masks = f", {len(item.masks)} masks in {item.masks[0].parent.name}/" if item.masks else ""
            yield f"written: {item.labels}{overlay}{masks}{doubt}"
        if self.report is not None:
            yield f"written: {self.report}, and beside it maps of where the model is unsure"


def check_prediction(options: PredictConfig) -> None:
    """Raise ValueError for options that cannot be used, before a model is read."""
    _runs(options)
    _check_output(options)


def predict(trained: TrainedModel, options: PredictConfig) -> Predictions:
    """Segment an image or every image of a folder.

    The label map has the image's spatial shape, affine and header geometry; with a folder it gets the image's name, or
    that of the case where each modality is a file.

    Raises:
        ValueError: no image can be used.
    """
    runs = _runs(options)
    recipe = trained.spec.recipe
    recipe.check_channels(options.channels)
    options = replace(options, last_steps=_last_steps(options, trained))
    jobs = _jobs(options, recipe)
    say_contradictions([path for job in jobs for path in job.case.paths], recipe.geometry)
    rows: list[dict[str, Any]] = []

    def one(job: _Job) -> Prediction:
        return _segment(trained, job, options, runs, rows)

    written, skipped = each_usable(jobs, one, VolumeError, "segmenting", options.progress)
    report = None
    if options.uncertainty:
        facts = {"runs": runs, "last_steps": options.last_steps or 0}
        report = uncertainty.write_report(_maps_folder(options), rows, recipe, **facts)
    return Predictions(tuple(written), tuple(Skipped(job.source, reason) for job, reason in skipped), report)


def _runs(config: PredictConfig) -> int:
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


def _check_output(config: PredictConfig) -> None:
    """Raise ValueError if results cannot be written, before a model is read."""
    one_file = _names_file(config.output)
    if config.input.is_dir() and one_file:
        raise ValueError(f"{config.output}: the input is a folder, so --output must be a folder too")
    check_folder("--output", config.output.parent if one_file else config.output)
    if one_file:
        _check_target(config, config.output)


def _check_target(config: PredictConfig, target: Path) -> None:
    if target.is_dir():
        raise ValueError(f"--output {config.output}: {target} is a folder; choose another place for the label map")


@dataclass(frozen=True, slots=True)
class _Job:
    """One case, and where its results go."""

    case: Input
    target: Path
    overlay: Path

    @property
    def source(self) -> Path:
        return self.case.paths[0]

    @property
    def title(self) -> str:
        """What the case is called in pictures and reports: its image's name, that of its label map for several."""
        return self.target.name if len(self.case.paths) > 1 else self.source.name


def _jobs(config: PredictConfig, recipe: Recipe) -> list[_Job]:
    """Every case with the label map and the overlay to write."""
    cases = find_inputs(config.input, recipe, config.channels, config.suffix)
    one_file = _names_file(config.output)
    targets = [config.output if one_file else config.output / case.target for case in cases]
    for case, target in zip(cases, targets, strict=True):
        if any(target.resolve() == source.resolve() for source in case.paths):
            raise ValueError(f"{target}: would overwrite the image itself; choose another --output")
        _check_target(config, target)
        if targets.count(target) > 1:
            raise ValueError(f"{target}: would hold the results of two cases, {case.paths[0].name} is one; rename it")
    stems = Counter(map(stem, targets))
    jobs = [
        _Job(case, target, _overlay(target, stems[stem(target)] > 1))
        for case, target in zip(cases, targets, strict=True)
    ]
    check_free("--output", _files(config, jobs, recipe), config.overwrite)
    return jobs


def _files(config: PredictConfig, jobs: list[_Job], recipe: Recipe) -> list[Path]:
    """All files that will be written."""
    files = [path for job in jobs for path in ((job.target, job.overlay) if config.overlay else (job.target,))]
    if config.uncertainty:
        names = [f"{job.overlay.stem}{ending}" for job in jobs for ending in uncertainty.ENDINGS]
        files += [_maps_folder(config) / name for name in (*names, uncertainty.REPORT)]
    if config.masks:
        files += [path for job in jobs for path in mask_paths(_masks_folder(job), recipe).values()]
    return files


def _masks_folder(job: _Job) -> Path:
    return job.target.parent / job.overlay.stem


def _overlay(target: Path, shared: bool) -> Path:
    """Where the picture beside a label map goes: a.png, but a.nii.png where there is an a.nii.gz too."""
    return target.with_name(f"{target.name if shared else stem(target)}.png")


def _segment(
    trained: TrainedModel, job: _Job, config: PredictConfig, runs: int, rows: list[dict[str, Any]]
) -> Prediction:
    """Write everything for one case; with uncertainty, add its row of the report."""
    if job.case.problem:
        raise VolumeError(job.case.problem)
    recipe = trained.spec.recipe
    volume = recipe.read(job.case.paths, config.channels)
    last_steps = config.last_steps or 0
    found = segment(trained, volume, seed=config.seed, runs=runs, last_steps=last_steps)
    values = recipe.to_volume(found.labels)
    write_labels(job.target, values, volume.path, recipe.geometry)
    masks: tuple[Path, ...] = ()
    if config.masks:
        masks = write_masks(_masks_folder(job), recipe, values, volume.path)
    if config.overlay:
        shown = found.images[:, 0], found.labels, None, found.spacing
        write_png(job.overlay, planes.draw(recipe, dims_of(trained.model), *shown, job.title))
    nqm = None
    if config.uncertainty:
        prefix = _maps_folder(config) / job.overlay.stem
        rows.append(uncertainty.write_maps(prefix, trained, found, volume.path, job.title, runs, last_steps))
        nqm = rows[-1]["nqm"]
    overlay = job.overlay if config.overlay else None
    return Prediction(job.source, job.target, overlay, found.voxels(recipe), nqm, job.case.paths[1:], masks)
