"""Scoring a model on images with known classes: a table, CSV files and the confusion matrix."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ncafast.tasks.base import Trained
from ncafast.tasks.classification.calibrating import calibration, deviations
from ncafast.tasks.classification.data import read_items
from ncafast.tasks.classification.inference import Spec
from ncafast.tasks.classification.items import Item, Source
from ncafast.tasks.classification.metrics import Metrics, measure
from ncafast.tasks.classification.options import EvaluateConfig
from ncafast.tasks.classification.sources import open_source
from ncafast.tasks.images import Reading
from ncafast.tasks.report import Report
from ncafast.train.run_folder import read_split
from ncafast.uncertainty import Calibration
from ncafast.utils.option_checks import Range
from ncafast.utils.progress import Bar, note, say
from ncafast.utils.tables import aligned
from ncafast.utils.texts import printable
from ncafast.viz import charts

VIEWS = Range(1, 8)  # of a square, turned and mirrored


@dataclass(frozen=True)
class Scores(Report):
    """The metrics over all images, and one row per class."""

    metrics: Metrics
    rows: tuple[dict[str, Any], ...]
    """class, images, precision, recall, f1"""
    count: int
    skipped: tuple[str, ...]
    """One line for each image that could not be used."""
    predictions: str = field(repr=False)
    """predictions.csv."""
    classes: tuple[str, ...] = field(repr=False)
    calibration: Calibration | None = field(default=None, repr=False)
    """Of --uncertainty."""

    def table(self) -> str:
        """The rows as text in columns, and the metrics below."""
        lines: list[tuple[str, ...]] = [("class", "images", "precision", "recall", "F1")]
        for row in self.rows:
            numbers = (f"{row[name]:.4f}" for name in ("precision", "recall", "f1"))
            lines.append((printable(row["class"]), str(row["images"]), *numbers))
        text = aligned(lines, right=(False, True, True, True, True))
        rule = "-" * len(text[0])
        metrics = self.metrics
        summary = f"{self.count} images: accuracy {metrics.accuracy:.4f}, F1 {metrics.f1_weighted:.4f} weighted, "
        summary += f"{metrics.f1_macro:.4f} mean over classes"
        calibration = [self.calibration.line()] if self.calibration else []
        return "\n".join([text[0], rule, *text[1:], rule, summary, *calibration])

    def contents(self) -> dict[str, Any]:
        """Scores by class, the class of every image, and the confusion matrix."""
        metrics = self.metrics
        total = {"class": "all, weighted", "images": self.count, "recall": metrics.accuracy, "f1": metrics.f1_weighted}
        title = f"{self.count} images, accuracy {metrics.accuracy:.3f}, macro F1 {metrics.f1_macro:.3f}"
        return {
            "scores.csv": [*(row | {"class": printable(row["class"])} for row in self.rows), total],
            "predictions.csv": self.predictions,
            **({"uncertainty.json": self.calibration.facts()} if self.calibration else {}),
            "confusion.png": charts.confusion(metrics.confusion, self.classes, title),
        }


def score(trained: Trained[Spec], options: EvaluateConfig) -> Scores:
    """Classify images and compare with their labels.

    Raises:
        ValueError: no image can be scored.
    """
    recipe = trained.spec.recipe
    source = open_source(options.data, options.naming)
    note(*source.notes)
    chosen = _choose(source, options)
    unknown = sorted({item.label for item in chosen} - set(recipe.classes))
    if unknown:
        raise ValueError(
            f"{options.data}: has the class {unknown[0]!r}, which the model does not know; "
            f"it knows {', '.join(recipe.classes[:12])}"
        )
    reading = Reading(recipe.value_range, options.max_pixels)
    images, bad = read_items(chosen, recipe.classes, recipe.size, options.progress, reading)
    reading.notes.say()
    skipped = (*source.skipped, *bad)
    for reason in skipped:
        say(f"skipped: {reason}")
    if not len(images):
        raise ValueError(f"{options.data}: none of the {len(chosen)} chosen images can be scored; see the lines above")
    scaled = recipe.scaled(images.pixels)
    with Bar(len(images), options.progress, "classifying") as bar:
        probabilities = trained.spec.classifier.probabilities(scaled, seed=options.seed, count=options.views, bar=bar)
    uncertain = None
    if options.uncertainty:
        with Bar(len(images), options.progress, "repeating") as bar:
            spread = deviations(trained.spec.classifier, scaled, options.seed, bar)
        uncertain = calibration(spread, probabilities, images.labels)
    metrics = measure(probabilities.argmax(1), images.labels, len(recipe.classes))
    rows = _rows(metrics.confusion, recipe.classes)
    labels = [recipe.classes[k] for k in images.labels.tolist()]
    predictions = predictions_csv(images.names, probabilities, recipe.classes, labels)
    return Scores(metrics, tuple(rows), len(images), skipped, predictions, recipe.classes, uncertain)


def predictions_csv(
    names: Sequence[str], probabilities: Tensor, classes: Sequence[str], labels: Sequence[str] | None = None
) -> str:
    """One line per image: file, class, (true class,) and the probability of every class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "class", *([] if labels is None else ["true"]), *map(printable, classes)])
    for index, (name, row) in enumerate(zip(names, probabilities, strict=True)):
        true = [] if labels is None else [printable(labels[index])]
        best = printable(classes[int(row.argmax())])
        writer.writerow([printable(name), best, *true, *(f"{value:.4f}" for value in row.tolist())])
    return text.getvalue()


def _choose(source: Source, config: EvaluateConfig) -> list[Item]:
    """The images of the subset that was asked for."""
    items = list(source.items)
    if config.subset == "test":
        return _test_images(items, config)
    split = read_split(config.model)
    if config.subset == "all" or (split is None and config.subset == "auto"):
        return _all_parts(items, config)
    if split is None:
        raise ValueError(f"{config.model}: no split.json beside the model says what was held out; use --subset all")
    side = "train" if config.subset == "train" else "held_out"
    names = set(split[side])
    # Names of another data set may be the same by chance, so all of them must be there.
    listed = [item for item in items if item.name in names]
    if len(listed) == len(names) and listed:
        return listed
    if config.subset == "auto":
        return _all_parts(items, config)
    raise ValueError(
        f"{config.data}: has {len(listed)} of the {len(names)} images that split.json lists as {side}; "
        "give the data of the training run, or --subset all"
    )


def _test_images(items: list[Item], config: EvaluateConfig) -> list[Item]:
    """Those that the data themselves call test images."""
    chosen = [item for item in items if item.part == "test"]
    if not chosen:
        raise ValueError(f"{config.data}: has no test images (a folder test, test_images, or split test); see --subset")
    return chosen


def _all_parts(items: list[Item], config: EvaluateConfig) -> list[Item]:
    """All images; where nobody asked for all of several parts, a line says so."""
    parts = sorted({item.part for item in items if item.part})
    if config.subset == "auto" and len(parts) > 1:
        note(f"scoring all {len(items)} images, those of {', '.join(parts)} together")
    return items


def _rows(confusion: Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    right, true, found = confusion.diag().double(), confusion.sum(1).double(), confusion.sum(0).double()
    precision, recall = right / found.clamp_min(1), right / true.clamp_min(1)
    f1 = 2 * right / (true + found).clamp_min(1)
    return [
        {
            "class": name,
            "images": int(true[k]),
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
        }
        for k, name in enumerate(classes)
    ]
