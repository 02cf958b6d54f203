"""Classifying images of digits: one line each, digits.csv, and pictures of what the cells say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ncafast.files import write_text
from ncafast.tasks.base import Trained
from ncafast.tasks.image_notes import Notes
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.selfclassify import pictures
from ncafast.tasks.selfclassify.images import list_images, read_digit
from ncafast.tasks.selfclassify.metrics import votes
from ncafast.tasks.selfclassify.options import PredictConfig
from ncafast.tasks.selfclassify.running import over_time
from ncafast.tasks.selfclassify.states import fresh_states
from ncafast.tasks.skipping import each_usable
from ncafast.utils.outputs import check_folder, check_free
from ncafast.utils.progress import say
from ncafast.utils.tables import csv_text
from ncafast.utils.texts import printable
from ncafast.viz.figures import write_png

_TABLE = "digits.csv"
_STATES = 5  # states in a picture


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one image's cells came to."""

    image: Path
    digit: int
    share: float
    """Part of the digit's cells that name it."""
    picture: Path


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was classified, and which images could not be used, with the reason."""

    found: tuple[Prediction, ...]
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
    notes = Notes()

    def one(path: Path) -> Prediction:
        found = _classify(trained, path, options, notes)
        say(f"{path.name}: {found.digit} ({100 * found.share:.0f} % of the cells)")
        return found

    found, skipped = each_usable(files, one, ImageError, "classifying")
    notes.say()
    table = options.output / _TABLE
    rows = [
        {"image": printable(item.image.name), "digit": item.digit, "share_of_cells": f"{item.share:.4f}"}
        for item in found
    ]
    write_text(table, csv_text(rows))
    return Predictions(tuple(found), tuple(skipped), table)


def inputs(options: PredictConfig) -> list[Path]:
    """The images to classify; a line names folders inside the input, which are not looked into.

    Raises:
        ValueError: an input or an output that cannot be used.
    """
    check_folder("--output", options.output)
    if options.output.resolve() == options.input.resolve():
        raise ValueError(f"--output {options.output}: its pictures would be taken for digits; give another folder")
    _say_folders(options.input)
    files = list_images(options.input)
    written = [options.output / _TABLE, *(_picture(options.output, path) for path in files)]
    check_free("--output", written, options.overwrite)
    return files


def _say_folders(source: Path) -> None:
    """A line on folders inside the input, whose images are not classified."""
    inside = sorted(path.name for path in source.iterdir() if path.is_dir()) if source.is_dir() else []
    inside = [name for name in inside if not name.startswith(".")]
    if inside:
        say(f"note: folders in {source} are not looked into: {', '.join(inside[:5])}{' ...' if inside[5:] else ''}")


def _picture(folder: Path, image: Path) -> Path:
    """Where the picture of an image goes: its ending stays, since a.png and a.jpg may lie side by side."""
    return folder / f"{image.name}.png"


def _classify(trained: Trained[int], path: Path, options: PredictConfig, notes: Notes) -> Prediction:
    image = read_digit(path, size=options.size, tone=options.ink, reading=Reading.of(options), notes=notes)
    device = next(trained.model.parameters()).device
    steps = options.steps or 2 * trained.spec
    counts = sorted({max(1, round(steps * part / (_STATES - 1))) for part in range(1, _STATES)})
    states = fresh_states(image[None].to(device), trained.model.channel_size)
    seen = [states[0]]
    seen += [found[0] for _, found in over_time(trained.model, states, counts, options.seed)]
    named = votes(seen[-1][None])[0]
    picture = _picture(options.output, path)
    write_png(picture, pictures.sheet(pictures.colour(torch.stack(seen)), len(seen), zoom=5))
    return Prediction(path, int(named.argmax()), float(named.max() / named.sum()), picture)
