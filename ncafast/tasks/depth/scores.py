"""Scoring a model on images with known depth, beside a constant depth and a linear model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import numpy as np
import torch

from ncafast.tasks.base import Trained
from ncafast.tasks.cascades import SHOWN, Array
from ncafast.tasks.depth import pictures
from ncafast.tasks.depth.data import Sample, find_pairs, read_pair
from ncafast.tasks.depth.inference import Estimator
from ncafast.tasks.depth.metrics import MEASURES, measure, similarity
from ncafast.tasks.depth.options import EvaluateConfig
from ncafast.tasks.depth.recipe import Recipe
from ncafast.tasks.image_pairs import Pair
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.mask_scores import mean
from ncafast.tasks.report import Report
from ncafast.tasks.runs import runs_of
from ncafast.tasks.skipping import each_usable
from ncafast.tasks.subsets import choose_pairs
from ncafast.uncertainty import Calibration
from ncafast.uncertainty.result import Moments
from ncafast.utils.progress import say
from ncafast.utils.tables import aligned
from ncafast.utils.texts import printable


@dataclass(frozen=True)
class Scores(Report):
    """The measures of every image, and their means over all images by method."""

    rows: tuple[dict[str, Any], ...]
    """image, method (model, constant, linear), abs_rel, rmse, delta1, delta2, delta3, ssim"""
    means: dict[str, dict[str, float]]
    """By method."""
    skipped: tuple[str, ...]
    pictures: dict[str, Array] = field(repr=False)
    calibration: Calibration | None = field(default=None, repr=False)
    """Of --uncertainty."""

    def table(self) -> str:
        """The means as text in columns, then what is said of the calibration."""
        lines = [("method", "|error|/depth", "RMSE m", "< 1.25", "< 1.25^2", "< 1.25^3", "SSIM")]
        lines += [(name, *(f"{row[key]:.4f}" for key in MEASURES)) for name, row in self.means.items()]  # type: ignore[misc]
        text = aligned(lines, right=(False, *[True] * len(MEASURES)))
        count = len(self.rows) // len(self.means)
        last = [f"means over {count} images", *([self.calibration.line()] if self.calibration else [])]
        return "\n".join([text[0], "-" * len(text[0]), *text[1:], *last])

    def contents(self) -> dict[str, Any]:
        """The rows, the calibration, and the pictures."""
        calibration = {"uncertainty.json": self.calibration.facts()} if self.calibration else {}
        rows = [row | {"image": printable(row["image"])} for row in self.rows]
        return {"scores.csv": rows, **calibration, **self.pictures}


def score(trained: Trained[Estimator], options: EvaluateConfig) -> Scores:
    """Estimate depth and compare with the known one.

    Raises:
        ValueError: no image can be scored.
    """
    estimator, options = trained.spec, replace(options, runs=runs_of(options))
    recipe, reading = estimator.recipe, Reading(estimator.recipe.value_range, options.max_pixels)
    calibration = Calibration("deviation", "|error| / depth", "pixel") if options.uncertainty else None
    found = find_pairs(options)
    for line in found.skipped:
        say(f"skipped: {line}")

    def moments_of(sample: Sample, name: str) -> Moments:
        return estimator.find(sample.pixels, name, seed=options.seed, runs=options.runs or 1)

    def one(pair: Pair) -> tuple[Pair, list[dict[str, Any]]]:
        sample = read_pair(pair, recipe, reading, options)
        moments = moments_of(sample, str(pair.image))
        methods = {
            "model": estimator.metres(moments),
            "constant": recipe.constant_depth(sample.pixels),
            "linear": recipe.linear_depth(sample.pixels),
        }
        small = recipe.shrunk_target
        each = {
            name: measure(depth, sample.depth) | {"ssim": similarity(small(depth), small(sample.depth))}
            for name, depth in methods.items()
        }
        if calibration:
            _add(calibration, moments, sample, recipe, each["model"]["abs_rel"])
        return pair, [{"image": pair.name, "method": name, **row} for name, row in each.items()]

    scored, unusable = each_usable(choose_pairs(found, options), one, ImageError, "scoring", options.progress)
    reading.notes.say()
    order = sorted(((-rows[0]["abs_rel"], pair) for pair, rows in scored), key=itemgetter(0))
    drawn = {}
    for name, index in (("worst", 0), ("middle", len(order) // 2), ("best", -1)):
        error, pair = order[index]
        sample = read_pair(pair, recipe, reading, options)
        title = f"{name}: {pair.name}, |error| / depth {-error:.3f}"
        depth = SHOWN.shrunk_target(estimator.metres(moments_of(sample, pair.name)))
        truth = SHOWN.shrunk_target(sample.depth)
        drawn[f"{name}.png"] = pictures.beside(SHOWN.shrunk(sample.pixels), depth, title, truth)
    rows = tuple(row for _, of_pair in scored for row in of_pair)
    return Scores(rows, _means(rows), (*found.skipped, *(reason for _, reason in unusable)), drawn, calibration)


def _add(calibration: Calibration, moments: Moments, sample: Sample, recipe: Recipe, error: float) -> None:
    """Add an image: the deviation of the logarithm over runs beside its error, where the depth is known."""
    known = torch.from_numpy(np.isfinite(sample.depth))
    deviation = moments.variance[0].sqrt()[known]
    errors = (moments.mean[0] - torch.from_numpy(recipe.scaled_log(sample.depth)))[known].abs()
    calibration.add(float(deviation.mean()), error, deviation, errors)


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of every measure over all images that have it, by method."""
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row["method"] for row in rows):
        columns = {key: [row[key] for row in rows if row["method"] == name] for key in MEASURES}
        have = {key: [value for value in values if math.isfinite(value)] for key, values in columns.items()}
        found[name] = {key: mean(values) if values else math.nan for key, values in have.items()}
    return found
