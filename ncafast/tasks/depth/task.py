"""Depth from one colour image with a cascade: train on images and depth maps, write depth maps, score them."""

from __future__ import annotations

from collections.abc import Iterable

from ncafast.tasks.base import Trained
from ncafast.tasks.cascade_options import LIMITS, check_cascade
from ncafast.tasks.cascade_task import CascadeTask
from ncafast.tasks.depth import pictures
from ncafast.tasks.depth.data import find_pairs
from ncafast.tasks.depth.inference import Estimator
from ncafast.tasks.depth.job import Depth
from ncafast.tasks.depth.options import AnimateConfig, TrainConfig
from ncafast.tasks.depth.prediction import inputs, predict
from ncafast.tasks.depth.scores import score
from ncafast.training_options import check_settings, settings_of
from ncafast.utils.option_checks import Range
from ncafast.viz.captions import Frame

_ABOVE_ZERO = Range(0, whole=False, without_low=True)


class DepthTask(CascadeTask[Estimator]):
    """See `ncafast train depth --help`."""

    name, targets = "depth", "depth"
    # What these lead to, the images and depths, is compared itself.
    free = frozenset(
        {"data", "images", "depth", "depth_scale", "max_depth", "train_list", "val_list", "val_fraction"}
        | {"value_range", "max_pixels"}
    )
    limits = LIMITS | {
        **dict.fromkeys(("depth_scale", "max_depth"), _ABOVE_ZERO),
        **dict.fromkeys(("ssim", "smoothness"), Range(0, whole=False)),
    }
    read, find_pairs = staticmethod(Estimator.read), staticmethod(find_pairs)
    evaluate, inputs, predict = staticmethod(score), staticmethod(inputs), staticmethod(predict)

    def check(self, options: TrainConfig) -> None:
        check_cascade(options, 1, "the depth")
        check_settings(settings_of(options))
        self.check_apart(options)

    def rank_by(self, options: TrainConfig) -> str:
        return "val_abs_rel"

    def job(self, options: TrainConfig) -> Depth:
        return Depth(self, options)

    def frames(self, trained: Trained[Estimator], options: AnimateConfig) -> Iterable[Frame]:
        """The depth beside the image after every few steps of each level."""
        pixels, levels = self.steps_of(trained, options)
        return list(pictures.film(pixels, levels, trained.spec.recipe, model=trained.model, every=options.every))


TASK = DepthTask()
