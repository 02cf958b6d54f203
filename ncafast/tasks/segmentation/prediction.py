"""Segmenting new images: a mask for each, in the form of the masks of training, and its outlines over the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from ncafast.tasks.base import Trained
from ncafast.tasks.colours import unlike
from ncafast.tasks.image_files import list_beside, picture_names
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.segmentation import pictures
from ncafast.tasks.segmentation.inference import Segmenter, labels_of
from ncafast.tasks.segmentation.options import PredictConfig
from ncafast.tasks.skipping import each_usable
from ncafast.tasks.stopping import TABLE, Stopping, check_stopping, write_steps
from ncafast.utils.outputs import finished
from ncafast.viz.figures import write_png


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What was written for one image."""

    image: Path
    mask: Path
    overlay: Path | None
    share: dict[str, float]
    """Share of the image's pixels, by class."""
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
            found = ", ".join(f"{name} {100 * share:.1f} %" for name, share in item.share.items())
            yield f"{item.image}: {found} ({item.mask}){item.stopping.words()}"


def inputs(options: PredictConfig) -> list[Path]:
    """The images to segment.

    Raises:
        ValueError: an input or an output that cannot be used.
    """
    check_stopping(options)
    return list_beside(options.input, options.output, ("overlays",) if options.overlay else (), options.overwrite)


def predict(trained: Trained[Segmenter], files: Sequence[Path], options: PredictConfig) -> Predictions:
    """Segment images. The result for an image does not depend on the others.

    Raises:
        ValueError: none of several images can be used.
    """
    segmenter = trained.spec
    recipe, reading = segmenter.recipe, Reading(segmenter.recipe.value_range, options.max_pixels)
    names = picture_names(files, options.input)

    def one(path: Path) -> ImageResult:
        pixels, stopping = recipe.read_image(path, reading), Stopping.of(options)
        if said := unlike(pixels, recipe.mean, recipe.std):
            reading.notes.add(said, str(path))
        labels = labels_of(segmenter.find(pixels, str(path), seed=options.seed, runs=options.runs, stopping=stopping))
        mask, overlay = options.output / names[path], None
        with finished(mask) as scratch:
            iio.imwrite(scratch, recipe.mask(labels))
        if options.overlay:
            overlay = options.output / "overlays" / names[path]
            write_png(overlay, pictures.overlay(pixels, labels, recipe, path.name))
        share = {name: float(np.mean(labels == k)) for k, name in enumerate(recipe.names, start=1)}
        return ImageResult(path, mask, overlay, share, stopping)

    done, skipped = each_usable(files, one, ImageError, "segmenting", options.progress, options.output)
    reading.notes.say()
    root = options.input if options.input.is_dir() else options.input.parent
    steps = write_steps(options.output / TABLE, [(str(item.image.relative_to(root)), item.stopping) for item in done])
    return Predictions(tuple(done), tuple(reason for _, reason in skipped), steps)
