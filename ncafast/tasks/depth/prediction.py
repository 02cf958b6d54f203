"""The depth of new images: a 16-bit PNG in millimetres for each, and a picture beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from ncafast.tasks.base import Trained
from ncafast.tasks.cascades import SHOWN
from ncafast.tasks.colours import unlike
from ncafast.tasks.depth import pictures
from ncafast.tasks.depth.inference import Estimator
from ncafast.tasks.depth.options import PredictConfig
from ncafast.tasks.image_files import list_beside, picture_names
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.skipping import each_usable
from ncafast.tasks.stopping import TABLE, Stopping, check_stopping, write_steps
from ncafast.utils.outputs import finished
from ncafast.viz.figures import write_png

_MOST = 65535  # of 16 bits


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What was written for one image."""

    image: Path
    depth: Path
    picture: Path | None
    nearest: float
    farthest: float
    """Metres."""
    stopping: Stopping
    """With the steps that were taken, where --until-converged asks for them."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was written, and one line for each image that could not be used."""

    written: tuple[ImageResult, ...]
    skipped: tuple[str, ...]
    steps: Path | None = None
    """What --until-converged says of all images."""

    def lines(self) -> Iterator[str]:
        """What was found, for people."""
        for item in self.written:
            yield f"{item.image}: {item.nearest:.2f} to {item.farthest:.2f} m ({item.depth}){item.stopping.words()}"


def inputs(options: PredictConfig) -> list[Path]:
    """The images whose depth is asked for.

    Raises:
        ValueError: an input or an output that cannot be used.
    """
    check_stopping(options)
    return list_beside(options.input, options.output, ("pictures",) if options.picture else (), options.overwrite)


def predict(trained: Trained[Estimator], files: Sequence[Path], options: PredictConfig) -> Predictions:
    """Estimate the depth of images. The result for an image does not depend on the others.

    Raises:
        ValueError: none of several images can be used.
    """
    estimator = trained.spec
    recipe, reading = estimator.recipe, Reading(estimator.recipe.value_range, options.max_pixels)
    names = picture_names(files, options.input)

    def one(path: Path) -> ImageResult:
        pixels, stopping = recipe.read_image(path, reading), Stopping.of(options)
        if said := unlike(pixels, recipe.mean, recipe.std):
            reading.notes.add(said, str(path))
        found = estimator.find(pixels, str(path), seed=options.seed, runs=options.runs, stopping=stopping)
        depth = estimator.metres(found)
        target, picture = options.output / names[path], None
        with finished(target) as scratch:
            iio.imwrite(scratch, np.clip(np.rint(1000 * depth), 1, _MOST).astype(np.uint16))
        if options.picture:
            picture = options.output / "pictures" / names[path]
            write_png(picture, pictures.beside(SHOWN.shrunk(pixels), SHOWN.shrunk_target(depth), path.name))
        return ImageResult(path, target, picture, float(depth.min()), float(depth.max()), stopping)

    done, skipped = each_usable(files, one, ImageError, "estimating depth", options.progress, options.output)
    reading.notes.say()
    root = options.input if options.input.is_dir() else options.input.parent
    steps = write_steps(options.output / TABLE, [(str(item.image.relative_to(root)), item.stopping) for item in done])
    return Predictions(tuple(done), tuple(reason for _, reason in skipped), steps)
