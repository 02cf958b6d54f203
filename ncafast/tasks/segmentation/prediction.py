"""Segmenting new images: a mask for each, in the form of the masks of training, and its outlines over the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from ncafast.tasks.base import Trained
from ncafast.tasks.image_files import ENDINGS, list_images, picture_of
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.segmentation import pictures
from ncafast.tasks.segmentation.inference import Segmenter, find_labels
from ncafast.tasks.segmentation.options import PredictConfig
from ncafast.tasks.skipping import each_usable
from ncafast.utils.outputs import check_apart, check_folder, check_free, finished
from ncafast.viz.figures import write_png


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was written for one image."""

    image: Path
    mask: Path
    overlay: Path | None
    share: dict[str, float]
    """Share of the image's pixels, by class."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was written, and one line for each image that could not be used."""

    written: tuple[Prediction, ...]
    skipped: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """What was found, for people."""
        for item in self.written:
            found = ", ".join(f"{name} {100 * share:.1f} %" for name, share in item.share.items())
            yield f"{item.image}: {found} ({item.mask})"


def inputs(options: PredictConfig) -> list[Path]:
    """The images to segment.

    Raises:
        ValueError: an input or an output that cannot be used.
    """
    check_folder("--output", options.output)
    check_apart("--output", options.output, "--input", options.input)
    files = list_images(options.input, ENDINGS)
    written = [path for file in files for path in _targets(file, options) if path is not None]
    twice = [path for path, count in Counter(written).items() if count > 1]
    if twice:
        raise ValueError(f"--output: {twice[0]} would hold two results; rename the folder overlays in {options.input}")
    check_free("--output", written, options.overwrite)
    return files


def predict(trained: Trained[Segmenter], files: Sequence[Path], options: PredictConfig) -> Predictions:
    """Segment images. The result for an image does not depend on the others.

    Raises:
        ValueError: none of several images can be used.
    """
    segmenter = trained.spec
    recipe, reading = segmenter.recipe, Reading(segmenter.recipe.value_range, options.max_pixels)

    def one(path: Path) -> Prediction:
        pixels = recipe.read_image(path, reading)
        labels = find_labels(segmenter, pixels, str(path), seed=options.seed, runs=options.runs)
        mask, overlay = _targets(path, options)
        with finished(mask) as scratch:
            iio.imwrite(scratch, recipe.mask(labels))
        if overlay is not None:
            write_png(overlay, pictures.overlay(pixels, labels, recipe, path.name))
        share = {name: float(np.mean(labels == k)) for k, name in enumerate(recipe.names, start=1)}
        return Prediction(path, mask, overlay, share)

    done, skipped = each_usable(files, one, ImageError, "segmenting", options.progress)
    reading.notes.say()
    return Predictions(tuple(done), tuple(reason for _, reason in skipped))


def _targets(image: Path, options: PredictConfig) -> tuple[Path, Path | None]:
    """Where the mask of an image goes, and its overlay."""
    mask = picture_of(image, options.input, options.output)
    return mask, picture_of(image, options.input, options.output / "overlays") if options.overlay else None
