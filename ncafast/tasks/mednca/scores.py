"""Scoring a model on volumes with known labels: a table, a CSV file, and pictures of the worst and best volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ncafast.nifti import VolumeError
from ncafast.tasks.mask_calibration import MaskCalibration
from ncafast.tasks.mask_scores import MaskScores, means, ranked
from ncafast.tasks.mednca import pictures, uncertainty
from ncafast.tasks.mednca.geometry import say_contradictions
from ncafast.tasks.mednca.inference import Segmentation, read, segment
from ncafast.tasks.mednca.inputs import check_channel_names
from ncafast.tasks.mednca.layouts import Dataset, open_dataset
from ncafast.tasks.mednca.metrics import score
from ncafast.tasks.mednca.model_file import TrainedModel
from ncafast.tasks.mednca.options import EvaluateConfig
from ncafast.tasks.mednca.pairs import Pair, Skipped
from ncafast.tasks.mednca.reading import Waived, read_truth, waivers
from ncafast.tasks.mednca.slices import Array, Recipe
from ncafast.tasks.runs import runs_of
from ncafast.tasks.skipping import each_usable
from ncafast.tasks.subsets import choose
from ncafast.utils.option_checks import refused
from ncafast.utils.progress import note, say
from ncafast.utils.texts import printable


@dataclass(frozen=True)
class Scores(MaskScores):
    """One row per volume and class: volume, label, dice, iou, hd95_mm, voxels_true, voxels_found; name, where labels
    have names; with several runs also nqm."""

    sample = "volume"
    columns = {"dice": ("Dice", 4), "iou": ("IoU", 4), "hd95_mm": ("HD95 mm", 2)}
    cells = "voxels"
    of_nothing = "Dice and IoU are then 0, and HD95 is the diagonal of the volume"
    skipped: tuple[Skipped, ...]


def score_volumes(trained: TrainedModel, options: EvaluateConfig) -> Scores:
    """Segment volumes and compare with their labels.

    Raises:
        ValueError: no volume can be scored.
    """
    recipe = trained.spec.recipe
    recipe.check_channels(options.channels)
    options = replace(options, runs=runs_of(options))
    classes = {str(value): recipe.name_of(value) for value in recipe.values}
    calibration = MaskCalibration(classes, "voxel") if options.uncertainty else None
    data = _open(options, recipe)
    names = choose([pair.name for pair in data.pairs], options.subset, options.model, "volumes")
    chosen = [pair for pair in data.pairs if pair.name in names]
    say_contradictions([path for pair in chosen for path in pair.sources], recipe.geometry)
    for item in data.skipped:
        say(f"skipped: {item.reason}")

    def one(pair: Pair) -> tuple[Pair, list[dict[str, Any]], Waived]:
        return pair, *_score(trained, pair, options, calibration)

    scored, unusable = each_usable(chosen, one, VolumeError, "scoring", options.progress)
    note(*waivers({pair.name: waived for pair, _, waived in scored}))
    rows = [row for _, of_pair, _ in scored for row in of_pair]
    drawn = {"quality.png": uncertainty.draw_quality(rows, recipe)} if (options.runs or 1) > 1 else {}

    def draw(pair: Pair, title: str) -> Array:
        segmentation, truth, _ = _read(trained, pair, options)
        return pictures.draw(segmentation, title, truth)

    drawn |= ranked([(pair, of_pair) for pair, of_pair, _ in scored], draw)
    skipped = (*data.skipped, *(Skipped(pair.image, reason) for pair, reason in unusable))
    return Scores(tuple(rows), means(rows, Scores.columns), skipped, drawn, calibration)


def _open(config: EvaluateConfig, recipe: Recipe) -> Dataset:
    """The data set, if it is of the kind that the model was trained on. Raises ValueError if not."""
    names, values = config.structures or (recipe.label_names if recipe.classes else ()), recipe.classes
    if config.structures and values and len(names) != len(values):
        raise refused("structures", names, f"the model has {len(values)} labels, so give a name for each")
    data = open_dataset(config, names, values if names else ())
    if data.structures and not names:
        raise ValueError(f"{config.data}: has a mask per structure, and the model does not name any; give --structures")
    check_channel_names(recipe, data.facts, config.channels)
    if config.channels is None and data.files != recipe.files:
        raise ValueError(recipe.miscounted(data.pairs[0].images))
    note(*data.decided(), *_other_names(recipe, data))
    return data


def _other_names(recipe: Recipe, data: Dataset) -> list[str]:
    """One line if labels have other names in the data set than in the model, on the first of them."""
    known = dict(data.labels)
    different = [
        f"label {value} is {known[value]} in this data set, and {name} in the model"
        for value, name in zip(recipe.values, recipe.label_names, strict=False)
        if known.get(value) and known[value].casefold() != printable(name).casefold()
    ]
    return different[:1]


def _read(trained: TrainedModel, pair: Pair, config: EvaluateConfig) -> tuple[Segmentation, Array, Waived]:
    """What is found in a volume, its true class numbers [S, H, W], and what --ignore-affine changed for them."""
    recipe = trained.spec.recipe
    image = read(trained, pair.images, config.channels, config.output)
    truth = read_truth(pair, image, recipe.geometry, config.ignore_affine)
    labels, waived = recipe.label_slices(truth.data), truth.waived
    del truth  # 4 bytes a voxel
    found = segment(trained, image, seed=config.seed, runs=config.runs or 1, scratch=config.output)
    return found, labels, waived


def _score(
    trained: TrainedModel, pair: Pair, config: EvaluateConfig, calibration: MaskCalibration | None
) -> tuple[list[dict[str, Any]], Waived]:
    """The volume's rows, and what --ignore-affine changed for its label map."""
    segmentation, truth, waived = _read(trained, pair, config)
    recipe = trained.spec.recipe
    nqm = uncertainty.scores(segmentation)
    rows = []
    for number, value in enumerate(recipe.values, start=1):
        ours, theirs = segmentation.labels == number, truth == number
        row = {
            "volume": pair.name,
            "label": value,
            **({"name": recipe.name_of(value)} if recipe.label_names else {}),
            **score(ours, theirs, segmentation.spacing),
            "voxels_true": int(theirs.sum()),
            "voxels_found": int(ours.sum()),
        }
        rows.append(row | ({"nqm": nqm[value]} if (config.runs or 1) > 1 else {}))
    if calibration:
        assert segmentation.result is not None
        probability = segmentation.result.probability.movedim(1, 0)
        deviation = segmentation.result.runs_variance.movedim(1, 0).sqrt()
        calibration.add(probability, deviation, segmentation.labels, truth, rows)
    return rows, waived
