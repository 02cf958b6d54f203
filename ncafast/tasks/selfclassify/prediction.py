"""Classifying images of digits: one line each, digits.csv, and pictures of what the cells say."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import torch

from ncafast.files import write_text
from ncafast.tasks.image_notes import Notes
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.selfclassify import pictures
from ncafast.tasks.selfclassify.config import PredictConfig
from ncafast.tasks.selfclassify.images import list_images, read_digit
from ncafast.tasks.selfclassify.metrics import votes
from ncafast.tasks.selfclassify.model_file import TrainedModel, load_model
from ncafast.tasks.selfclassify.running import over_time
from ncafast.tasks.selfclassify.states import fresh_states
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import check_options
from ncafast.utils.outputs import check_folder, check_free
from ncafast.utils.progress import say
from ncafast.utils.texts import printable
from ncafast.viz.figures import write_png

_MOMENTS = 5  # states in a picture


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


def predict(config: PredictConfig) -> Predictions:
    """Classify an image or every image of a folder.

    Raises:
        ValueError: options, a checkpoint or an input that cannot be used; of a folder, only if no image can.
    """
    check_options(config, size=0, steps=1)
    check_folder("--output", config.output)
    if config.output.resolve() == config.input.resolve():
        raise ValueError(f"--output {config.output}: its pictures would be taken for digits; give another folder")
    _say_folders(config.input)
    files = list_images(config.input)
    table = config.output / "digits.csv"
    check_free("--output", [table, *(_picture(config.output, path) for path in files)], config.overwrite)
    trained = load_model(config.model, resolve_device(config.device))
    found: list[Prediction] = []
    skipped: list[tuple[Path, str]] = []
    notes = Notes()
    for path in files:
        try:
            found.append(_classify(trained, path, config, notes))
        except ImageError as error:
            if len(files) == 1:
                raise
            skipped.append((path, str(error)))
            say(f"skipped: {error}")
            continue
        say(f"{path.name}: {found[-1].digit} ({100 * found[-1].share:.0f} % of the cells)")
    notes.say()
    if not found:
        raise ValueError(f"none of the {len(files)} images can be used; see the lines above")
    result = Predictions(tuple(found), tuple(skipped), table)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "digit", "share_of_cells"])
    writer.writerows([printable(item.image.name), item.digit, f"{item.share:.4f}"] for item in found)
    write_text(result.csv, text.getvalue())
    return result


def _say_folders(place: Path) -> None:
    """A line on folders inside the input, whose images are not classified."""
    inside = sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
    inside = [name for name in inside if not name.startswith(".")]
    if inside:
        say(f"note: folders in {place} are not looked into: {', '.join(inside[:5])}{' ...' if inside[5:] else ''}")


def _picture(folder: Path, image: Path) -> Path:
    """Where the picture of an image goes: its ending stays, since a.png and a.jpg may lie side by side."""
    return folder / f"{image.name}.png"


def _classify(trained: TrainedModel, path: Path, config: PredictConfig, notes: Notes) -> Prediction:
    image = read_digit(path, size=config.size, tone=config.ink, reading=Reading.of(config), notes=notes)
    device = next(trained.model.parameters()).device
    steps = config.steps or 2 * trained.steps
    moments = sorted({max(1, round(steps * part / (_MOMENTS - 1))) for part in range(1, _MOMENTS)})
    states = fresh_states(image[None].to(device), trained.model.channel_size)
    seen = [states[0]]
    seen += [found[0] for _, found in over_time(trained.model, states, moments, config.seed)]
    counts = votes(seen[-1][None])[0]
    picture = _picture(config.output, path)
    write_png(picture, pictures.sheet(pictures.colour(torch.stack(seen)), len(seen), zoom=5))
    return Prediction(path, int(counts.argmax()), float(counts.max() / counts.sum()), picture)
