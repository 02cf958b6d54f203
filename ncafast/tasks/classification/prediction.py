"""Classifying new images: one line each in predictions.csv, and a picture of what the automaton made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ncafast.files import write_text
from ncafast.tasks.classification import pictures
from ncafast.tasks.classification.config import PredictConfig
from ncafast.tasks.classification.evaluation import VIEWS, predictions_csv
from ncafast.tasks.classification.images import read_image
from ncafast.tasks.classification.listing import list_images
from ncafast.tasks.classification.model_file import TrainedModel, load_model
from ncafast.tasks.image_notes import Notes
from ncafast.tasks.images import ImageError, Reading
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import check_options
from ncafast.utils.outputs import check_apart, check_folder, check_free
from ncafast.utils.progress import Bar, say
from ncafast.utils.seeds import mix
from ncafast.viz.figures import write_png


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


def predict(config: PredictConfig) -> Predictions:
    """Classify an image or all images of a folder. The result for an image does not depend on the others.

    Raises ValueError if no image can be used.
    """
    check_options(config, views=VIEWS)
    check_folder("--output", config.output)
    check_apart("--output", config.output, "--input", config.input)
    if not config.input.exists():
        raise ValueError(f"--input {config.input}: does not exist; give an image or a folder with images")
    files = list_images(config.input) if config.input.is_dir() else [config.input]
    root = config.input if config.input.is_dir() else config.input.parent
    table = config.output / "predictions.csv"
    places = {path: _picture(config.output, path.relative_to(root)) for path in files}
    check_free("--output", [table, *(places.values() if config.pictures else ())], config.overwrite)
    trained = load_model(config.model, resolve_device(config.device))
    found: list[Prediction] = []
    skipped: list[str] = []
    rows, names = [], []
    reading, notes = Reading(trained.recipe.value_range, config.max_pixels), Notes()
    bar = Bar(len(files), 0, config.progress)
    bar.describe("classifying")
    for path in files:
        try:
            pixels = read_image(path, trained.recipe.size, reading, notes)
        except ImageError as error:
            if len(files) == 1:
                bar.close()
                raise
            skipped.append(str(error))
            say(f"skipped: {error}")
        else:
            name = str(path.relative_to(root))
            picture = places[path] if len(found) < config.pictures else None
            prediction, row = _classify(trained, pixels, path, picture, config)
            found.append(prediction)
            rows.append(row)
            names.append(name)
        bar.advance({})
    bar.close()
    notes.say()
    if not found:
        raise ValueError(f"none of the {len(files)} images can be used; see the lines above")
    write_text(table, predictions_csv(names, torch.stack(rows), trained.recipe.classes))
    return Predictions(tuple(found), table, tuple(skipped))


def _picture(folder: Path, name: Path) -> Path:
    """Where the picture of an image goes: its ending stays, since a.png and a.jpg may lie side by side."""
    return folder / name.with_name(f"{name.name}.png")


def _classify(
    trained: TrainedModel, pixels: np.ndarray, path: Path, picture: Path | None, config: PredictConfig
) -> tuple[Prediction, torch.Tensor]:
    recipe, classifier = trained.recipe, trained.classifier
    scaled = recipe.scaled(torch.from_numpy(pixels)[None])
    probabilities = classifier.probabilities(scaled, seed=config.seed, count=config.views)[0]
    best = int(probabilities.argmax())
    if picture is not None:
        place = classifier.model.fc2.weight.device
        states = classifier.states(scaled.to(place), mix("predict", config.seed, 0))
        title = f"{path.name}: {recipe.classes[best]} ({probabilities[best]:.2f})"
        drawn = pictures.channels_over_time([x[0] for x in states], probabilities.tolist(), recipe, title)
        write_png(picture, drawn)
    return Prediction(path, recipe.classes[best], float(probabilities[best]), picture), probabilities
