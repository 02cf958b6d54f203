"""Classifying new images: one line each in predictions.csv, and a picture of what the automaton made of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ncafast.files import write_text
from ncafast.tasks.base import Trained
from ncafast.tasks.classification import pictures
from ncafast.tasks.classification.images import ENDINGS, read_image
from ncafast.tasks.classification.inference import Spec
from ncafast.tasks.classification.options import PredictConfig
from ncafast.tasks.classification.scores import predictions_csv
from ncafast.tasks.image_files import list_images, picture_of
from ncafast.tasks.image_notes import Notes
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.skipping import each_usable
from ncafast.utils.outputs import check_apart, check_folder, check_free
from ncafast.utils.seeds import mix
from ncafast.viz.figures import write_png

_TABLE = "predictions.csv"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was found for one image."""

    image: Path
    label: str
    probability: float
    picture: Path | None


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was found, where it was written, and one line for each image that could not be used."""

    found: tuple[Prediction, ...]
    csv: Path
    skipped: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """What was found, for people."""
        for item in self.found:
            shown = f" ({item.picture})" if item.picture else ""
            yield f"{item.image}: {item.label}, {item.probability:.2f}{shown}"
        yield f"written: {self.csv}"


def inputs(options: PredictConfig) -> list[Path]:
    """The images to classify.

    Raises:
        ValueError: an input or an output that cannot be used.
    """
    check_folder("--output", options.output)
    check_apart("--output", options.output, "--input", options.input)
    files = list_images(options.input, ENDINGS)
    drawn = [picture_of(path, options.input, options.output) for path in files] if options.pictures else []
    check_free("--output", [options.output / _TABLE, *drawn], options.overwrite)
    return files


def predict(trained: Trained[Spec], files: Sequence[Path], options: PredictConfig) -> Predictions:
    """Classify images. The result for an image does not depend on the others.

    Raises:
        ValueError: none of several images can be used.
    """
    recipe, notes = trained.spec.recipe, Notes()
    reading, drawn = Reading(recipe.value_range, options.max_pixels), itertools.count()

    def one(path: Path) -> tuple[Prediction, torch.Tensor]:
        pixels = read_image(path, recipe.size, reading, notes)
        picture = picture_of(path, options.input, options.output) if next(drawn) < options.pictures else None
        return _classify(trained.spec, pixels, path, picture, options)

    found, skipped = each_usable(files, one, ImageError, "classifying", options.progress)
    notes.say()
    table = options.output / _TABLE
    root = options.input if options.input.is_dir() else options.input.parent
    names = [str(prediction.image.relative_to(root)) for prediction, _ in found]
    write_text(table, predictions_csv(names, torch.stack([row for _, row in found]), recipe.classes))
    return Predictions(tuple(prediction for prediction, _ in found), table, tuple(reason for _, reason in skipped))


def _classify(
    spec: Spec, pixels: np.ndarray, path: Path, picture: Path | None, options: PredictConfig
) -> tuple[Prediction, torch.Tensor]:
    recipe, classifier = spec.recipe, spec.classifier
    scaled = recipe.scaled(torch.from_numpy(pixels)[None])
    probabilities = classifier.probabilities(scaled, seed=options.seed, count=options.views)[0]
    best = int(probabilities.argmax())
    if picture is not None:
        place = classifier.model.fc2.weight.device
        states = classifier.states(scaled.to(place), mix("predict", options.seed, 0))
        title = f"{path.name}: {recipe.classes[best]} ({probabilities[best]:.2f})"
        drawn = pictures.channels_over_time([x[0] for x in states], probabilities.tolist(), recipe, title)
        write_png(picture, drawn)
    return Prediction(path, recipe.classes[best], float(probabilities[best]), picture), probabilities
