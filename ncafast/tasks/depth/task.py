"""Depth from one colour image with a cascade: train on images and depth maps, write depth maps, score them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ncafast.models import CascadeNCA
from ncafast.tasks.base import Task, Trained
from ncafast.tasks.cascade_options import LIMITS, check_cascade
from ncafast.tasks.depth import pictures
from ncafast.tasks.depth.data import find_pairs
from ncafast.tasks.depth.inference import Estimator
from ncafast.tasks.depth.job import Depth
from ncafast.tasks.depth.options import AnimateConfig, EvaluateConfig, PredictConfig, TrainConfig
from ncafast.tasks.depth.prediction import inputs, predict
from ncafast.tasks.depth.scores import score
from ncafast.tasks.image_pairs import trainable
from ncafast.tasks.images import Reading
from ncafast.train.settings import check_settings, settings_of
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import Range, refused
from ncafast.utils.outputs import check_apart
from ncafast.viz.pixels import Array

_ABOVE_ZERO = Range(0, whole=False, without_low=True)


class DepthTask(Task[Estimator]):
    """See `ncafast train depth --help`."""

    name, unit, models = "depth", "images", (CascadeNCA,)
    evaluation_files = ("scores.csv", "uncertainty.json", "worst.png", "middle.png", "best.png")
    hold = 1.5
    # What these lead to, the images and depths, is compared itself.
    free = frozenset(
        {"data", "images", "depth", "depth_scale", "max_depth", "train_list", "val_list", "val_fraction"}
        | {"value_range", "max_pixels"}
    )
    limits = LIMITS | {
        **dict.fromkeys(("depth_scale", "max_depth"), _ABOVE_ZERO),
        **dict.fromkeys(("ssim", "smoothness"), Range(0, whole=False)),
    }
    read = staticmethod(Estimator.read)
    evaluate, inputs, predict = staticmethod(score), staticmethod(inputs), staticmethod(predict)

    def check(self, options: TrainConfig) -> None:
        check_cascade(options, 1, "the depth")
        check_settings(settings_of(options))
        self._check_apart(options)

    def check_use(self, options: AnimateConfig | EvaluateConfig | PredictConfig) -> None:
        if isinstance(options, EvaluateConfig):
            self._check_apart(options)

    def _check_apart(self, options: TrainConfig | EvaluateConfig) -> None:
        for option, folder in (("--data", options.data), ("--images", options.images), ("--depth", options.depth)):
            check_apart("--output", options.output, option, folder)

    def resolved(self, options: TrainConfig) -> TrainConfig:
        return replace(options, device=str(resolve_device(options.device)))

    def samples(self, options: TrainConfig) -> tuple[Sequence[str], None]:
        return trainable(find_pairs(options), options.data), None

    def rank_by(self, options: TrainConfig) -> str:
        return "val_abs_rel"

    def job(self, options: TrainConfig) -> Depth:
        return Depth(self, options)

    def frames(self, trained: Trained[Estimator], options: AnimateConfig) -> Iterable[Array]:
        """The depth beside the image after every few steps of each level."""
        estimator, model = trained.spec, trained.model
        if options.every > min(model.steps):
            raise refused("every", options.every, f"a level of the model takes {min(model.steps)} steps; give no more")
        reading = Reading(estimator.recipe.value_range, options.max_pixels)
        pixels = estimator.recipe.shrunk(estimator.recipe.read_image(options.input, reading))
        reading.notes.say()
        levels = estimator.outputs.steps(pixels, seed=options.seed, every=options.every)
        return list(pictures.film(pixels, levels, estimator.recipe, scales=model.scales, every=options.every))


TASK = DepthTask()
