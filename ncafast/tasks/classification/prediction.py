"""Classifying new images: one line each in predictions.csv, and a picture of what the automaton made of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ncafast.files import write_text
from ncafast.tasks.base import Trained
from ncafast.tasks.classification import pictures
from ncafast.tasks.classification.images import read_image
from ncafast.tasks.classification.inference import Spec
from ncafast.tasks.classification.options import PredictConfig
from ncafast.tasks.classification.scores import predictions_csv
from ncafast.tasks.colours import unlike
from ncafast.tasks.image_files import ENDINGS, check_pictures, list_images, picture_names
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.skipping import each_usable
from ncafast.tasks.stopping import TABLE, Stopping, check_stopping, write_steps
from ncafast.utils.outputs import check_apart, check_folder
from ncafast.viz.figures import write_png

_TABLE = "predictions.csv"


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What was found for one image."""

    image: Path
    label: str
    probability: float
    picture: Path | None
    stopping: Stopping
    """With the steps that were taken, where --until-converged asks for them."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was found, where it was written, and one line for each image that could not be used."""

    found: tuple[ImageResult, ...]
    csv: Path
    skipped: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """What was found, for people."""
        for item in self.found:
            shown = f" ({item.picture})" if item.picture else ""
            yield f"{item.image}: {item.label}, {item.probability:.2f}{shown}{item.stopping.words()}"
        yield f"written: {self.csv}"


def inputs(options: PredictConfig) -> list[Path]:
    """The images to classify.

    Raises:
        ValueError: an input or an output that cannot be used.
    """
    check_folder("--output", options.output)
    check_apart("--output", options.output, "--input", options.input)
    check_stopping(options)
    files = list_images(options.input, ENDINGS)
    drawn = map(options.output.joinpath, picture_names(files, options.input).values()) if options.pictures else ()
    check_pictures([options.output / _TABLE, *drawn], files, options.overwrite)
    return files


def predict(trained: Trained[Spec], files: Sequence[Path], options: PredictConfig) -> Predictions:
    """Classify images. The result for an image does not depend on the others.

    Raises:
        ValueError: none of several images can be used.
    """
    spec = trained.spec
    spec.classifier.check(Stopping.of(options))
    reading, drawn = Reading(spec.recipe.value_range, options.max_pixels), itertools.count()
    names = picture_names(files, options.input)

    def one(path: Path) -> tuple[ImageResult, Tensor]:
        values = read_image(path, spec.recipe.size, reading)
        if said := unlike(values, spec.recipe.mean, spec.recipe.std):
            reading.notes.add(said, str(path))
        pixels = torch.from_numpy(values)
        stopping = Stopping.of(options)
        probabilities = spec.probabilities(pixels, options.seed, options.views, stopping)
        best = int(probabilities.argmax())
        label, picture = spec.recipe.classes[best], None
        if next(drawn) < options.pictures:
            picture = options.output / names[path]
            title = f"{path.name}: {label} ({probabilities[best]:.2f})"
            taken = stopping.rows[0]["steps"] if stopping.rows else None  # of the view that is shown
            states = spec.states(pixels, options.seed)[: None if taken is None else taken + 1]
            write_png(picture, pictures.channels_over_time(states, probabilities.tolist(), spec.recipe, title))
        return ImageResult(path, label, float(probabilities[best]), picture, stopping), probabilities

    done, skipped = each_usable(files, one, ImageError, "classifying", options.progress)
    reading.notes.say()
    table = options.output / _TABLE
    root = options.input if options.input.is_dir() else options.input.parent
    shown = [str(prediction.image.relative_to(root)) for prediction, _ in done]
    write_text(table, predictions_csv(shown, torch.stack([row for _, row in done]), spec.recipe.classes))
    found = tuple(prediction for prediction, _ in done)
    write_steps(options.output / TABLE, [(name, item.stopping) for name, item in zip(shown, found, strict=True)])
    return Predictions(found, table, tuple(reason for _, reason in skipped))
