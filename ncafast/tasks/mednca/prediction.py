"""Segmenting new images: a NIfTI label map beside each one, in its own geometry, and a picture to look at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ncafast.nifti import VolumeError
from ncafast.tasks.mednca import pictures, uncertainty, zarr_prediction
from ncafast.tasks.mednca.geometry import say_contradictions
from ncafast.tasks.mednca.inference import Segmentation, needs_tiles, read, segment
from ncafast.tasks.mednca.inputs import Case, find_inputs
from ncafast.tasks.mednca.lazy_nifti import segment_file
from ncafast.tasks.mednca.model_file import TrainedModel
from ncafast.tasks.mednca.options import PredictConfig
from ncafast.tasks.mednca.pairs import Skipped, stem
from ncafast.tasks.mednca.slices import Recipe
from ncafast.tasks.mednca.tiled import existing
from ncafast.tasks.mednca.volumes import write_map
from ncafast.tasks.mednca.zarr_images import is_zarr
from ncafast.tasks.runs import runs_of
from ncafast.tasks.skipping import each_usable
from ncafast.tasks.stopping import TABLE, Stopping, write_steps
from ncafast.utils.option_checks import refused
from ncafast.utils.outputs import check_folder, check_free
from ncafast.viz.figures import write_png

_LAST_STEPS = 5


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What is written for one image."""

    image: Path
    labels: Path
    overlay: Path | None
    voxels: dict[int, int] = field(default_factory=dict)
    """Number of voxels by label value."""
    others: tuple[Path, ...] = ()
    """The second and further modalities, where the image has a file for each."""
    masks: tuple[Path, ...] = ()
    """A binary mask per label, where --masks asks for them."""
    maps: tuple[Path, ...] = ()
    """Where the model is unsure, as `uncertainty.ENDINGS` has them, where --uncertainty asks for it."""
    row: dict[str, Any] | None = None
    """Of the report of --uncertainty."""
    stopping: Stopping = field(default_factory=Stopping)
    """With the steps of each run of each group of slices, where --until-converged asks for them."""

    @property
    def quality(self) -> dict[int, float] | None:
        """The quality score NQM by label value, where --uncertainty asks for it; high means doubtful."""
        return self.row["nqm"] if self.row else None

    @property
    def title(self) -> str:
        """What the case is called in pictures and reports: its image's name, that of its label map for several."""
        return self.labels.name if self.others else self.image.name

    @property
    def files(self) -> list[Path]:
        """All that is written."""
        return [*filter(None, (self.labels, self.overlay)), *self.masks, *self.maps]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was written, and which images could not be used."""

    written: tuple[ImageResult, ...]
    skipped: tuple[Skipped, ...]
    report: Path | None = None
    """What --uncertainty says of all images."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Of the labels by their values."""

    def lines(self) -> Iterator[str]:
        """What was written, for people."""
        for item in self.written:
            overlay = f", {item.overlay.name}" if item.overlay else ""
            doubt = f" ({uncertainty.words(item.quality, self.names)})" if item.quality else ""
            masks = f", {len(item.masks)} masks in {item.masks[0].parent.name}/" if item.masks else ""
            yield f"written: {item.labels}{overlay}{masks}{doubt}{item.stopping.words()}"
        if self.report is not None:
            yield f"written: {self.report}, and beside it maps of where the model is unsure; high NQM means doubtful"


def check_prediction(options: PredictConfig) -> None:
    """Raise ValueError for options that cannot be used, before a model is read."""
    runs_of(options)
    if Stopping.of(options).until is not None and options.uncertainty:
        raise ValueError(
            "--until-converged does not go with --uncertainty, which compares the last steps; leave one out"
        )
    one_file = _names_file(options.output) or is_zarr(options.output)
    if is_zarr(options.input):
        zarr_prediction.check(options)
    elif is_zarr(options.output):
        raise ValueError(f"{options.output}: results are zarr stores where the image is one; give a NIfTI --output")
    if options.input.is_dir() and _names_file(options.output):
        raise ValueError(f"{options.output}: the input is a folder, so --output must be a folder too")
    check_folder("--output", options.output.parent if one_file else options.output)
    if _names_file(options.output):
        check_free("--output", [options.output], overwrite=True)  # what is there is looked at when all files are known


def predict(trained: TrainedModel, options: PredictConfig) -> Predictions:
    """Segment an image or every image of a folder.

    The label map has the image's spatial shape, affine and header geometry; with a folder it gets the image's name, or
    that of the case where each modality is a file.

    Raises:
        ValueError: no image can be used.
    """
    if is_zarr(options.input):
        labels, picture, voxels = zarr_prediction.predict(trained, options)
        return Predictions((ImageResult(options.input, labels, picture, voxels),), ())
    recipe = trained.spec.recipe
    options = replace(options, runs=runs_of(options), last_steps=_last_steps(options, trained))
    cases = find_inputs(options, recipe)
    planned = _planned(options, cases, recipe)
    say_contradictions([path for case in cases for path in case.paths], recipe.geometry)

    def one(item: tuple[Case, ImageResult]) -> ImageResult:
        return _segment(trained, *item, options)

    items = list(zip(cases, planned, strict=True))
    written, skipped = each_usable(items, one, VolumeError, "segmenting", options.progress, options.output)
    report = None
    if options.uncertainty:
        facts = {"runs": options.runs, "last_steps": options.last_steps}
        report = uncertainty.write_report(_maps_folder(options), [item.row for item in written], recipe, facts)
    write_steps(_steps_table(options), [(item.title, item.stopping) for item in written])
    left_out = tuple(Skipped(item.image, reason) for (_, item), reason in skipped)
    return Predictions(tuple(written), left_out, report, recipe.names)


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


def _steps_table(config: PredictConfig) -> Path:
    """What --until-converged writes."""
    if not _names_file(config.output):
        return config.output / TABLE
    return config.output.parent / f"{stem(config.output)}-{TABLE}"


def _names_file(output: Path) -> bool:
    return output.name.lower().endswith((".nii", ".nii.gz"))


def _planned(config: PredictConfig, cases: Sequence[Case], recipe: Recipe) -> list[ImageResult]:
    """The files to write for every case. Raises ValueError for one that cannot be written."""
    one_file = _names_file(config.output)
    targets = [config.output if one_file else config.output / case.target for case in cases]
    stems = Counter(map(stem, targets))
    planned = []
    for case, target in zip(cases, targets, strict=True):
        image, *others = case.paths
        if any(target.resolve() == source.resolve() for source in case.paths):
            raise ValueError(f"{target}: would overwrite the image itself; choose another --output")
        if targets.count(target) > 1:
            raise ValueError(f"{target}: would hold the results of two cases, {image.name} is one; rename it")
        name = target.name if stems[stem(target)] > 1 else stem(target)  # a.nii.png, where there is an a.nii.gz too
        overlay = target.with_name(f"{name}.png") if config.overlay else None
        masks = (target.parent / name / f"{mask}.nii.gz" for mask in mask_names(recipe) if config.masks)
        maps = (_maps_folder(config) / f"{name}{end}" for end in uncertainty.ENDINGS if config.uncertainty)
        planned.append(ImageResult(image, target, overlay, others=tuple(others), masks=tuple(masks), maps=tuple(maps)))
    report = [_maps_folder(config) / uncertainty.REPORT] if config.uncertainty else []
    steps = [_steps_table(config)] if config.until_converged else []
    check_free("--output", [*(path for item in planned for path in item.files), *report, *steps], config.overwrite)
    return planned


def _segment(trained: TrainedModel, case: Case, planned: ImageResult, config: PredictConfig) -> ImageResult:
    """Write everything for one case."""
    if case.problem:
        raise VolumeError(case.problem)
    recipe, runs, last_steps = trained.spec.recipe, config.runs or 1, config.last_steps or 0
    like = case.paths[(config.channels or recipe.channels)[0] if len(case.paths) > 1 else 0]
    stopping = Stopping.of(config)
    segmentation = _segmentation(trained, case, existing(planned.labels.parent), config, stopping)
    values = recipe.to_volume(segmentation.labels)
    write_map(planned.labels, values, like, recipe.geometry)
    for value, path in zip(recipe.values, planned.masks, strict=False):
        write_map(path, values == value, like, recipe.geometry)
    title, row = planned.title, None
    if planned.overlay:
        write_png(planned.overlay, pictures.draw(segmentation, title))
    if planned.maps:
        row = uncertainty.write_maps(planned.maps, segmentation, like, title, runs, last_steps)
    return replace(planned, voxels=segmentation.voxels(), row=row, stopping=stopping)


def _segmentation(
    trained: TrainedModel, case: Case, folder: Path, config: PredictConfig, stopping: Stopping
) -> Segmentation:
    """What the model says of a case. Where only labels are wanted of a file that needs tiles, it stays on disk; what
    stops by convergence cannot run in tiles."""
    scratch = folder if stopping.until is None else None
    only_labels = scratch and (config.runs or 1) == 1 and not config.uncertainty and len(case.paths) == 1
    if only_labels and needs_tiles(trained, case.paths[0], folder):
        options: dict[str, Any] = {"seed": config.seed, "folder": folder, "progress": config.progress}
        return segment_file(trained, case.paths[0], config.channels, **options)
    options = {"seed": config.seed, "runs": config.runs or 1, "last_steps": config.last_steps or 0}
    options |= {"scratch": scratch, "stopping": stopping}
    # segment() alone holds the intensities
    return segment(trained, read(trained, case.paths, config.channels, scratch), **options)


def mask_names(recipe: Recipe) -> list[str]:
    """A file name without its ending for each label value: the label's name as far as a file may have it."""
    names: list[str] = []
    for value in recipe.values:
        name = re.sub(r"[^\w.+-]+", "_", recipe.name_of(value)).strip("._") or f"label_{value}"
        taken = {other.casefold() for other in names}
        names.append(f"{name}_{value}" if name.casefold() in taken else name)
    return names
