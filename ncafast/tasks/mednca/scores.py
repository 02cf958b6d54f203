"""Scoring a model on volumes with known labels: a table, a CSV file, and pictures of the worst and best volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

from ncafast.nifti import VolumeError
from ncafast.tasks.mednca import pictures, uncertainty
from ncafast.tasks.mednca.calibrating import Calibrations
from ncafast.tasks.mednca.geometry import say_contradictions
from ncafast.tasks.mednca.inference import Segmentation, read, segment
from ncafast.tasks.mednca.inputs import check_channel_names
from ncafast.tasks.mednca.layouts import Dataset, open_dataset
from ncafast.tasks.mednca.metrics import mean, score
from ncafast.tasks.mednca.model_file import TrainedModel
from ncafast.tasks.mednca.options import EvaluateConfig
from ncafast.tasks.mednca.pairs import Pair, Skipped
from ncafast.tasks.mednca.reading import Waived, read_truth, waivers
from ncafast.tasks.mednca.slices import Array, Recipe
from ncafast.tasks.report import Report
from ncafast.tasks.skipping import each_usable
from ncafast.train.run_folder import read_split
from ncafast.utils.option_checks import refused
from ncafast.utils.progress import note, say
from ncafast.utils.tables import aligned
from ncafast.utils.texts import printable

_COLUMNS = ("dice", "iou", "hd95_mm")


@dataclass(frozen=True)
class Scores(Report):
    """One row per volume and class, their means, and the files that were left out."""

    rows: tuple[dict[str, Any], ...]
    """volume, label, dice, iou, hd95_mm, voxels_true, voxels_found; name, where labels have names; with several runs
    also nqm"""
    mean: dict[str, float]
    """Of dice, iou and hd95_mm over all rows."""
    skipped: tuple[Skipped, ...]
    pictures: dict[str, Array] = field(repr=False)
    """[H, W, 3] uint8 by file name."""
    calibration: Calibrations | None = field(default=None, repr=False)
    """Of --uncertainty."""

    def table(self) -> str:
        """The rows and the mean as text in columns."""
        lines = [("volume", "label", "Dice", "IoU", "HD95 mm")]
        for row in (*self.rows, {"volume": "mean", "label": "", **self.mean}):
            numbers = (f"{row['dice']:.4f}", f"{row['iou']:.4f}", f"{row['hd95_mm']:.2f}")
            label = printable(row.get("name") or str(row["label"]))
            lines.append((printable(row["volume"]), label, *numbers))
        text = aligned(lines, right=(False, True, True, True, True))
        rule = "-" * len(text[0])
        calibration = self.calibration.lines() if self.calibration else []
        return "\n".join([text[0], rule, *text[1:-1], rule, text[-1], *calibration])

    def contents(self) -> dict[str, Any]:
        """The rows with a last one named mean, and the pictures."""
        rows = [row | {"volume": printable(row["volume"])} for row in self.rows]
        calibration = {"uncertainty.json": self.calibration.facts()} if self.calibration else {}
        return {"scores.csv": [*rows, {"volume": "mean", **self.mean}], **calibration, **self.pictures}


def score_volumes(trained: TrainedModel, options: EvaluateConfig) -> Scores:
    """Segment volumes and compare with their labels.

    Raises:
        ValueError: no volume can be scored.
    """
    trained.spec.recipe.check_channels(options.channels)
    options = replace(options, runs=uncertainty.runs_of(options))
    calibration = Calibrations(trained.spec.recipe) if options.uncertainty else None
    data = _open(options, trained.spec.recipe)
    chosen = _choose(data.pairs, options)
    say_contradictions([path for pair in chosen for path in pair.sources], trained.spec.recipe.geometry)
    for item in data.skipped:
        say(f"skipped: {item.reason}")

    def one(pair: Pair) -> tuple[Pair, list[dict[str, Any]], Waived]:
        return pair, *_score(trained, pair, options, calibration)

    scored, unusable = each_usable(chosen, one, VolumeError, "scoring", options.progress)
    note(*waivers({pair.name: waived for pair, _, waived in scored}))
    rows = [row for _, of_pair, _ in scored for row in of_pair]
    means = {key: mean([row[key] for row in rows]) for key in _COLUMNS}
    drawn = {"quality.png": uncertainty.draw_quality(rows, trained.spec.recipe)} if (options.runs or 1) > 1 else {}
    ranked = sorted(((mean([row["dice"] for row in of_pair]), pair) for pair, of_pair, _ in scored), key=itemgetter(0))
    for name, index in (("worst", 0), ("middle", len(ranked) // 2), ("best", -1)):
        dice, pair = ranked[index]
        segmentation, truth, _ = _read(trained, pair, options)
        drawn[f"{name}.png"] = pictures.draw(segmentation, f"{name}: {pair.name}, Dice {dice:.3f}", truth)
    skipped = (*data.skipped, *(Skipped(pair.image, reason) for pair, reason in unusable))
    return Scores(tuple(rows), means, skipped, drawn, calibration)


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


def _choose(pairs: Sequence[Pair], config: EvaluateConfig) -> list[Pair]:
    """The pairs of the wanted subset."""
    subset = config.subset
    split = None if subset == "all" else read_split(config.model)
    if subset == "auto":
        known = split is not None and any(pair.name in split["train"] for pair in pairs)
        subset = "val" if known else "all"
    if subset == "all":
        return list(pairs)
    side = "held-out" if subset == "val" else subset
    if split is None:
        raise ValueError(
            f"{config.model}: has no split.json beside it, so its {side} volumes are not known; use --subset all"
        )
    wanted = set(split[side.replace("-", "_")])
    chosen = [pair for pair in pairs if pair.name in wanted]
    if not chosen:
        raise ValueError(f"none of the model's {len(wanted)} {side} volumes is in this data; use --subset all")
    say(f"scoring the {side} volumes: {len(chosen)} of {len(pairs)}")
    return chosen


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
    trained: TrainedModel, pair: Pair, config: EvaluateConfig, calibration: Calibrations | None
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
        calibration.add(segmentation, truth, rows)
    return rows, waived
