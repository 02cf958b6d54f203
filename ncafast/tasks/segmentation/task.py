"""Segmentation of colour images with a cascade: train on images and masks, write masks, score them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ncafast.models import CascadeNCA
from ncafast.tasks.base import Task, Trained
from ncafast.tasks.cascade_options import LIMITS, check_cascade
from ncafast.tasks.image_pairs import trainable
from ncafast.tasks.images import Reading
from ncafast.tasks.segmentation import pictures
from ncafast.tasks.segmentation.inference import Segmenter
from ncafast.tasks.segmentation.job import Segmentation
from ncafast.tasks.segmentation.options import AnimateConfig, EvaluateConfig, PredictConfig, TrainConfig
from ncafast.tasks.segmentation.pairs import find_pairs
from ncafast.tasks.segmentation.prediction import inputs, predict
from ncafast.tasks.segmentation.recipe import parse_classes
from ncafast.tasks.segmentation.scores import score
from ncafast.train.settings import check_settings, settings_of
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import refused
from ncafast.utils.outputs import check_apart
from ncafast.viz.pixels import Array


class SegmentationTask(Task[Segmenter]):
    """See `ncafast train segmentation --help`."""

    name, unit, models = "segmentation", "images", (CascadeNCA,)
    evaluation_files = ("scores.csv", "uncertainty.json", "worst.png", "middle.png", "best.png")
    hold = 1.5
    # What these lead to, the images, is compared itself.
    free = frozenset({"data", "images", "masks", "train_list", "val_list", "val_fraction", "value_range", "max_pixels"})
    limits = LIMITS
    read = staticmethod(Segmenter.read)
    evaluate, inputs, predict = staticmethod(score), staticmethod(inputs), staticmethod(predict)

    def check(self, options: TrainConfig) -> None:
        names, _ = parse_classes(options.classes)
        check_cascade(options, len(names), "the classes")
        check_settings(settings_of(options))
        self._check_apart(options)

    def check_use(self, options: AnimateConfig | EvaluateConfig | PredictConfig) -> None:
        if isinstance(options, EvaluateConfig):
            self._check_apart(options)

    def _check_apart(self, options: TrainConfig | EvaluateConfig) -> None:
        for option, folder in (("--data", options.data), ("--images", options.images), ("--masks", options.masks)):
            check_apart("--output", options.output, option, folder)

    def resolved(self, options: TrainConfig) -> TrainConfig:
        return replace(options, device=str(resolve_device(options.device)))

    def samples(self, options: TrainConfig) -> tuple[Sequence[str], None]:
        return trainable(find_pairs(options), options.data), None

    def rank_by(self, options: TrainConfig) -> str:
        return "val_dice"

    def job(self, options: TrainConfig) -> Segmentation:
        return Segmentation(self, options)

    def frames(self, trained: Trained[Segmenter], options: AnimateConfig) -> Iterable[Array]:
        """The probability of a class over the image after every few steps of each level."""
        segmenter, model = trained.spec, trained.model
        names = segmenter.recipe.names
        if options.label is not None and options.label not in names:
            raise refused("label", options.label, f"the model knows {', '.join(names)}")
        if options.every > min(model.steps):
            raise refused("every", options.every, f"a level of the model takes {min(model.steps)} steps; give no more")
        reading = Reading(segmenter.recipe.value_range, options.max_pixels)
        pixels = segmenter.recipe.shrunk(segmenter.recipe.read_image(options.input, reading))
        reading.notes.say()
        levels = segmenter.outputs.steps(pixels, seed=options.seed, every=options.every)
        label = 0 if options.label is None else names.index(options.label)
        return list(pictures.film(pixels, levels, label, scales=model.scales, every=options.every))


TASK = SegmentationTask()
