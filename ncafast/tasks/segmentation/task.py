"""Segmentation of colour images with a cascade: train on images and masks, write masks, score them."""

from __future__ import annotations

from collections.abc import Iterable

from ncafast.tasks.base import Trained
from ncafast.tasks.cascade_options import LIMITS, check_cascade
from ncafast.tasks.cascade_task import CascadeTask
from ncafast.tasks.segmentation import pictures
from ncafast.tasks.segmentation.inference import Segmenter
from ncafast.tasks.segmentation.job import Segmentation
from ncafast.tasks.segmentation.options import AnimateConfig, TrainConfig
from ncafast.tasks.segmentation.pairs import find_pairs
from ncafast.tasks.segmentation.prediction import inputs, predict
from ncafast.tasks.segmentation.recipe import parse_classes
from ncafast.tasks.segmentation.scores import score
from ncafast.training_options import check_settings, settings_of
from ncafast.utils.option_checks import refused
from ncafast.viz.captions import Frame


class SegmentationTask(CascadeTask[Segmenter]):
    """See `ncafast train segmentation --help`."""

    name, targets = "segmentation", "masks"
    # What these lead to, the images, is compared itself.
    free = frozenset({"data", "images", "masks", "train_list", "val_list", "val_fraction", "value_range", "max_pixels"})
    limits = LIMITS
    read, find_pairs = staticmethod(Segmenter.read), staticmethod(find_pairs)
    evaluate, inputs, predict = staticmethod(score), staticmethod(inputs), staticmethod(predict)

    def check(self, options: TrainConfig) -> None:
        names, _ = parse_classes(options.classes)
        check_cascade(options, len(names), "the classes")
        check_settings(settings_of(options))
        self.check_apart(options)

    def rank_by(self, options: TrainConfig) -> str:
        return "val_dice"

    def job(self, options: TrainConfig) -> Segmentation:
        return Segmentation(self, options)

    def frames(self, trained: Trained[Segmenter], options: AnimateConfig) -> Iterable[Frame]:
        """The probability of a class over the image after every few steps of each level."""
        recipe, model = trained.spec.recipe, trained.model
        names = recipe.names
        if options.label is not None and options.label not in names:
            raise refused("label", options.label, f"the model knows {', '.join(names)}")
        pixels, levels = self.steps_of(trained, options)
        label = 0 if options.label is None else names.index(options.label)
        return list(pictures.film(pixels, levels, label, recipe, model=model, every=options.every))


TASK = SegmentationTask()
