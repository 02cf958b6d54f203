"""Classifying images of digits: one line each, digits.csv, and pictures of what the cells say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ncafast.files import write_text
from ncafast.tasks.base import Trained
from ncafast.tasks.image_files import check_pictures, list_images, picture_names
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.selfclassify import pictures
from ncafast.tasks.selfclassify.images import ENDINGS, read_digit
from ncafast.tasks.selfclassify.metrics import votes
from ncafast.tasks.selfclassify.options import PredictConfig
from ncafast.tasks.selfclassify.running import over_time
from ncafast.tasks.selfclassify.states import fresh_states
from ncafast.tasks.skipping import each_usable
from ncafast.tasks.stopping import TABLE, Stopping, check_stopping, write_steps
from ncafast.utils.outputs import check_folder
from ncafast.utils.progress import say
from ncafast.utils.tables import csv_text
from ncafast.utils.texts import printable
from ncafast.viz.figures import write_png

_TABLE = "digits.csv"
_STATES = 5  # states in a picture


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What one image's cells came to."""

    image: Path
    digit: int
    share: float
    """Part of the digit's cells that name it."""
    picture: Path
    stopping: Stopping
    """With the steps that were taken, where --until-converged asks for them."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was classified, and which images could not be used, with the reason."""

    found: tuple[ImageResult, ...]
    skipped: tuple[tuple[Path, str], ...]
    csv: Path

    def lines(self) -> Iterator[str]:
        """What was written, for people; a line for each image was printed before."""
        yield f"written: {self.csv} and a picture per image"


def predict(trained: Trained[int], files: Sequence[Path], options: PredictConfig) -> Predictions:
    """Classify images.

    Args:
        trained: a model, and the steps of its longest training rollout.
        files: the images.
        options: see `PredictConfig`.

    Raises:
        ValueError: none of the images can be used.
    """
    reading, device = Reading.of(options), next(trained.model.parameters()).device
    most, names = options.steps or 2 * trained.spec, picture_names(files, options.input)

    def one(path: Path) -> ImageResult:
        image = read_digit(path, size=options.size, tone=options.ink, reading=reading).to(device)
        fresh, stopping = fresh_states(image[None], trained.model.channel_size), Stopping.of(options)
        steps = most
        if stopping.until is not None:  # found first, so that its states can be shown; the same seed, the same steps
            steps = stopping.predict(trained.model, fresh, most, seed=options.seed).steps
        counts = sorted({max(1, round(steps * part / (_STATES - 1))) for part in range(1, _STATES)})
        states = torch.cat([fresh, *(later for _, later in over_time(trained.model, fresh, counts, options.seed))])
        named = votes(states[-1:])[0]
        picture = options.output / names[path]
        write_png(picture, pictures.sheet(pictures.colour(states), len(states), zoom=5))
        done = ImageResult(path, int(named.argmax()), float(named.max() / named.sum()), picture, stopping)
        say(f"{path.name}: {done.digit} ({100 * done.share:.0f} % of the cells){stopping.words()}")
        return done

    found, skipped = each_usable(files, one, ImageError, "classifying")
    reading.notes.say()
    table = options.output / _TABLE
    rows = [
        {"image": printable(item.image.name), "digit": item.digit, "share_of_cells": f"{item.share:.4f}"}
        for item in found
    ]
    write_text(table, csv_text(rows))
    write_steps(options.output / TABLE, [(item.image.name, item.stopping) for item in found])
    return Predictions(tuple(found), tuple(skipped), table)


def inputs(options: PredictConfig) -> list[Path]:
    """The images to classify.

    Raises:
        ValueError: an input or an output that cannot be used.
    """
    check_folder("--output", options.output)
    if options.output.resolve() == options.input.resolve():
        raise ValueError(f"--output {options.output}: its pictures would be taken for digits; give another folder")
    check_stopping(options)
    files = list_images(options.input, ENDINGS, deep=False)
    names = picture_names(files, options.input).values()
    check_pictures([options.output / _TABLE, *map(options.output.joinpath, names)], files, options.overwrite)
    return files
