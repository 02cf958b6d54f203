"""Scoring a model on images with known classes: a table, CSV files and the confusion matrix."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ncafast.files import write_text
from ncafast.tasks.classification import pictures
from ncafast.tasks.classification.config import EvaluateConfig
from ncafast.tasks.classification.data import Images, read_items
from ncafast.tasks.classification.metrics import Metrics, measure
from ncafast.tasks.classification.model_file import TrainedModel, load_model
from ncafast.tasks.classification.sources import Item, Source, open_source
from ncafast.tasks.image_notes import Notes
from ncafast.tasks.images import Reading
from ncafast.train.run_folder import read_split
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import Range, check_options
from ncafast.utils.outputs import check_apart, check_folder, check_free
from ncafast.utils.progress import Bar, say
from ncafast.utils.texts import printable
from ncafast.viz.figures import write_png

_FILES = ("scores.csv", "predictions.csv", "confusion.png")
VIEWS = Range(1, 8)  # of a square, turned and mirrored


@dataclass(frozen=True, slots=True)
class Scores:
    """The metrics over all images, one row per class, and the files that were written."""

    metrics: Metrics
    rows: tuple[dict[str, Any], ...]
    """class, images, precision, recall, f1"""
    count: int
    csv: Path
    skipped: tuple[str, ...]

    def table(self) -> str:
        """The rows as text in columns, and the metrics below."""
        width = max(5, *(len(printable(row["class"])) for row in self.rows))
        lines = [f"{'class':<{width}}  images  precision  recall      F1"]
        for row in self.rows:
            numbers = f"{row['precision']:>9.4f}  {row['recall']:>6.4f}  {row['f1']:>6.4f}"
            lines.append(f"{printable(row['class']):<{width}}  {row['images']:>6}  {numbers}")
        rule = "-" * len(lines[0])
        own = self.metrics
        summary = f"{self.count} images: accuracy {own.accuracy:.4f}, F1 {own.f1_weighted:.4f} weighted, "
        return "\n".join([lines[0], rule, *lines[1:], rule, summary + f"{own.f1_macro:.4f} mean over classes"])


def evaluate(config: EvaluateConfig) -> Scores:
    """Classify images, compare with their labels, print the table, write scores.csv, predictions.csv, confusion.png.

    Raises ValueError if no image can be scored.
    """
    check_options(config, views=VIEWS)
    check_folder("--output", config.output)
    check_free("--output", [config.output / name for name in _FILES], config.overwrite)
    check_apart("--output", config.output, "--data", config.data)
    trained = load_model(config.model, resolve_device(config.device))
    source = open_source(config.data, config.naming)
    for line in source.notes:
        say(line)
    chosen = _choose(source, config)
    unknown = sorted({item.label for item in chosen} - set(trained.recipe.classes))
    if unknown:
        raise ValueError(
            f"{config.data}: has the class {unknown[0]!r}, which the model does not know; "
            f"it knows {', '.join(trained.recipe.classes[:12])}"
        )
    reading, notes = Reading(trained.recipe.value_range, config.max_pixels), Notes()
    images, bad = read_items(chosen, trained.recipe.classes, trained.recipe.size, config.progress, reading, notes)
    notes.say()
    skipped = (*source.skipped, *bad)
    for reason in skipped:
        say(f"skipped: {reason}")
    if not len(images):
        raise ValueError(f"{config.data}: none of the {len(chosen)} chosen images can be scored; see the lines above")
    scaled = trained.recipe.scaled(images.pixels)
    bar = Bar(len(images), 0, config.progress)
    bar.describe("classifying")
    try:
        probabilities = trained.classifier.probabilities(
            scaled, seed=config.seed, count=config.views, advance=lambda count: bar.advance({}, count)
        )
    finally:
        bar.close()
    metrics = measure(probabilities.argmax(1), images.labels, len(trained.recipe.classes))
    rows = _rows(metrics.confusion, trained.recipe.classes)
    scores = Scores(metrics, tuple(rows), len(images), config.output / "scores.csv", skipped)
    _write(scores, trained, images, probabilities, config.output)
    print(scores.table(), flush=True)
    return scores


def predictions_csv(
    names: Sequence[str], probabilities: Tensor, classes: Sequence[str], labels: Sequence[str] | None = None
) -> str:
    """One line per image: file, class, (true class,) and the probability of every class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "class", *([] if labels is None else ["true"]), *map(printable, classes)])
    for place, (name, row) in enumerate(zip(names, probabilities, strict=True)):
        true = [] if labels is None else [printable(labels[place])]
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
    found = [item for item in items if item.name in names]
    if len(found) == len(names) and found:
        return found
    if config.subset == "auto":
        return _all_parts(items, config)
    raise ValueError(
        f"{config.data}: has {len(found)} of the {len(names)} images that split.json lists as {side}; "
        "give the data of the training run, or --subset all"
    )


def _test_images(items: list[Item], config: EvaluateConfig) -> list[Item]:
    """Those that the data themselves call test images."""
    found = [item for item in items if item.part == "test"]
    if not found:
        raise ValueError(f"{config.data}: has no test images (a folder test, test_images, or split test); see --subset")
    return found


def _all_parts(items: list[Item], config: EvaluateConfig) -> list[Item]:
    """All images; where nobody asked for all of several parts, a line says so."""
    parts = sorted({item.part for item in items if item.part})
    if config.subset == "auto" and len(parts) > 1:
        say(f"note: scoring all {len(items)} images, those of {', '.join(parts)} together")
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


def _write(scores: Scores, trained: TrainedModel, images: Images, probabilities: Tensor, folder: Path) -> None:
    text, own, classes = io.StringIO(), scores.metrics, trained.recipe.classes
    writer = csv.DictWriter(text, list(scores.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"class": printable(row["class"])} for row in scores.rows)
    total = {"class": "all, weighted", "images": scores.count, "recall": own.accuracy, "f1": own.f1_weighted}
    writer.writerow(total)
    write_text(scores.csv, text.getvalue())
    labels = [classes[k] for k in images.labels.tolist()]
    write_text(folder / "predictions.csv", predictions_csv(images.names, probabilities, classes, labels))
    title = f"{scores.count} images, accuracy {own.accuracy:.3f}, macro F1 {own.f1_macro:.3f}"
    write_png(folder / "confusion.png", pictures.confusion(own.confusion, classes, title))
