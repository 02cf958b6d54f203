"""Scoring a model on images with known masks: a table, a CSV file, and the worst, the middle and the best image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ncafast.losses.masks import dice, iou
from ncafast.tasks.base import Trained
from ncafast.tasks.image_pairs import Pair
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.mask_calibration import MaskCalibration
from ncafast.tasks.mask_scores import MaskScores, means, ranked
from ncafast.tasks.runs import runs_of
from ncafast.tasks.segmentation import pictures
from ncafast.tasks.segmentation.data import Sample, read_pair
from ncafast.tasks.segmentation.inference import Segmenter, labels_of
from ncafast.tasks.segmentation.options import EvaluateConfig
from ncafast.tasks.segmentation.pairs import find_pairs
from ncafast.tasks.segmentation.recipe import Recipe
from ncafast.tasks.skipping import each_usable
from ncafast.tasks.subsets import choose_pairs
from ncafast.uncertainty.result import Moments, quality
from ncafast.utils.progress import say


@dataclass(frozen=True)
class Scores(MaskScores):
    """One row per image and class: image, label, dice, iou, pixels_true, pixels_found; with several runs also nqm."""

    sample = "image"
    columns = {"dice": ("Dice", 4), "iou": ("IoU", 4)}
    cells = "pixels"


def score(trained: Trained[Segmenter], options: EvaluateConfig) -> Scores:
    """Segment images and compare with their masks.

    Raises:
        ValueError: no image can be scored.
    """
    segmenter, options = trained.spec, replace(options, runs=runs_of(options))
    recipe, reading = segmenter.recipe, Reading(segmenter.recipe.value_range, options.max_pixels)
    calibration = MaskCalibration({name: name for name in recipe.names}, "pixel") if options.uncertainty else None
    found = find_pairs(options)
    for line in found.skipped:
        say(f"skipped: {line}")

    def one(pair: Pair) -> tuple[Pair, list[dict[str, Any]]]:
        sample = read_pair(pair, recipe, reading)
        moments = segmenter.find(sample.pixels, str(pair.image), seed=options.seed, runs=options.runs or 1)
        return pair, _rows(pair, sample, moments, recipe, calibration)

    scored, unusable = each_usable(choose_pairs(found, options), one, ImageError, "scoring", options.progress)
    reading.notes.say()

    def draw(pair: Pair, title: str) -> pictures.Array:
        sample = read_pair(pair, recipe, reading)
        labels = segmenter.labels(sample.pixels, seed=options.seed, runs=options.runs or 1)
        return pictures.overlay(sample.pixels, labels, recipe, title, sample.labels)

    rows = tuple(row for _, of_pair in scored for row in of_pair)
    skipped = (*found.skipped, *(reason for _, reason in unusable))
    return Scores(rows, means(rows, Scores.columns), skipped, ranked(scored, draw), calibration)


def _rows(
    pair: Pair, sample: Sample, moments: Moments, recipe: Recipe, calibration: MaskCalibration | None
) -> list[dict[str, Any]]:
    """An image's rows, one per class; it is added to the calibration."""
    labels, deviation = labels_of(moments), moments.variance.sqrt()
    nqm = quality(deviation, moments.mean).tolist()
    rows = []
    for number, name in enumerate(recipe.names, start=1):
        ours, true = labels == number, sample.labels == number
        measures = {"dice": dice(ours, true), "iou": iou(ours, true)}
        pixels = {"pixels_true": int(true.sum()), "pixels_found": int(ours.sum())}
        doubt = {"nqm": nqm[number - 1]} if moments.count > 1 else {}
        rows.append({"image": pair.name, "label": name, **measures, **pixels, **doubt})
    if calibration:
        calibration.add(moments.mean, deviation, labels, sample.labels, rows)
    return rows
