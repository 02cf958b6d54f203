"""Scoring a model on images with known depth, beside a constant depth and a linear model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from ncafast.tasks.base import Trained
from ncafast.tasks.cascades import Array
from ncafast.tasks.depth import pictures
from ncafast.tasks.depth.data import find_pairs, read_pair
from ncafast.tasks.depth.inference import Estimator, find_depth
from ncafast.tasks.depth.metrics import MEASURES, measure
from ncafast.tasks.depth.options import EvaluateConfig
from ncafast.tasks.image_pairs import Pair
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.mask_scores import mean
from ncafast.tasks.report import Report
from ncafast.tasks.skipping import each_usable
from ncafast.tasks.subsets import choose_pairs
from ncafast.utils.progress import say
from ncafast.utils.tables import aligned
from ncafast.utils.texts import printable


@dataclass(frozen=True)
class Scores(Report):
    """The measures of every image, and their means over all images by method."""

    rows: tuple[dict[str, Any], ...]
    """image, method (model, constant, linear), abs_rel, rmse, delta1, delta2, delta3"""
    means: dict[str, dict[str, float]]
    """By method."""
    skipped: tuple[str, ...]
    pictures: dict[str, Array] = field(repr=False)

    def table(self) -> str:
        """The means as text in columns."""
        lines = [("method", "|error|/depth", "RMSE m", "< 1.25", "< 1.25^2", "< 1.25^3")]
        lines += [(name, *(f"{row[key]:.4f}" for key in MEASURES)) for name, row in self.means.items()]  # type: ignore[misc]
        text = aligned(lines, right=(False, *[True] * len(MEASURES)))
        count = len(self.rows) // len(self.means)
        return "\n".join([text[0], "-" * len(text[0]), *text[1:], f"means over {count} images"])

    def contents(self) -> dict[str, Any]:
        """The rows, and the pictures."""
        return {"scores.csv": [row | {"image": printable(row["image"])} for row in self.rows], **self.pictures}


def score(trained: Trained[Estimator], options: EvaluateConfig) -> Scores:
    """Estimate depth and compare with the known one.

    Raises:
        ValueError: no image can be scored.
    """
    estimator = trained.spec
    recipe, reading = estimator.recipe, Reading(estimator.recipe.value_range, options.max_pixels)
    found = find_pairs(options)
    for line in found.skipped:
        say(f"skipped: {line}")
    methods: dict[str, Callable[[Array, str], Array]] = {
        "model": lambda pixels, name: find_depth(estimator, pixels, name, seed=options.seed, runs=options.runs),
        "constant": lambda pixels, name: recipe.constant_depth(pixels),
        "linear": lambda pixels, name: recipe.linear_depth(pixels),
    }

    def one(pair: Pair) -> tuple[Pair, list[dict[str, Any]]]:
        sample = read_pair(pair, recipe, reading, options)
        each = {name: measure(find(sample.pixels, str(pair.image)), sample.depth) for name, find in methods.items()}
        return pair, [{"image": pair.name, "method": name, **row} for name, row in each.items()]

    scored, unusable = each_usable(choose_pairs(found, options), one, ImageError, "scoring", options.progress)
    reading.notes.say()
    order = sorted(((-rows[0]["abs_rel"], pair) for pair, rows in scored), key=itemgetter(0))
    drawn = {}
    for name, index in (("worst", 0), ("middle", len(order) // 2), ("best", -1)):
        error, pair = order[index]
        sample = read_pair(pair, recipe, reading, options)
        title = f"{name}: {pair.name}, |error| / depth {-error:.3f}"
        drawn[f"{name}.png"] = pictures.beside(sample.pixels, methods["model"](sample.pixels, ""), title, sample.depth)
    rows = tuple(row for _, of_pair in scored for row in of_pair)
    means = {
        name: {key: mean([row[key] for row in rows if row["method"] == name]) for key in MEASURES} for name in methods
    }
    return Scores(rows, means, (*found.skipped, *(reason for _, reason in unusable)), drawn)
