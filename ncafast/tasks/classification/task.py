"""Image classification with MaxNCA: train on image folders, lists or .npz files, score, and look inside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from ncafast.models import MaxNCA
from ncafast.tasks.base import Task, Trained
from ncafast.tasks.classification import augment, pictures
from ncafast.tasks.classification.images import read_image
from ncafast.tasks.classification.inference import Spec
from ncafast.tasks.classification.job import Classification
from ncafast.tasks.classification.options import AnimateConfig, EvaluateConfig, PredictConfig, TrainConfig
from ncafast.tasks.classification.prediction import inputs, predict
from ncafast.tasks.classification.scores import VIEWS, score
from ncafast.tasks.classification.sources import open_source
from ncafast.tasks.images import Reading
from ncafast.train.run_folder import RunFolder
from ncafast.utils.devices import resolve_device
from ncafast.utils.outputs import check_apart
from ncafast.utils.progress import note
from ncafast.viz.captions import Frame


class ClassificationTask(Task[Spec]):
    """See `ncafast train classification --help`."""

    name, unit, models = "classification", "images", (MaxNCA,)
    evaluation_files = ("scores.csv", "predictions.csv", "uncertainty.json", "confusion.png")
    hold = 2.0
    # What these lead to, the images, is compared itself.
    free = frozenset(
        {"data", "val_data", "train_list", "val_list", "naming", "val_fraction", "value_range", "max_pixels"}
    )
    limits = {"steps": 1, "size": 2, "state_channels": 4, "views": VIEWS}
    read = staticmethod(Spec.read)
    evaluate, inputs, predict = staticmethod(score), staticmethod(inputs), staticmethod(predict)

    def check(self, options: TrainConfig) -> None:
        check_apart("--output", options.output, "--data", options.data)
        check_apart("--output", options.output, "--val-data", options.val_data)

    def check_use(self, options: AnimateConfig | EvaluateConfig | PredictConfig) -> None:
        if isinstance(options, EvaluateConfig):
            check_apart("--output", options.output, "--data", options.data)

    def resolved(self, options: TrainConfig) -> TrainConfig:
        begun = RunFolder(options.output).options()
        kind = options.augment if options.augment != "auto" else begun.get("augment") or augment.resolve("auto")
        return replace(options, device=str(resolve_device(options.device)), augment=augment.resolve(kind))

    def samples(self, options: TrainConfig) -> tuple[Sequence[str], Sequence[str]]:
        if options.val_data is not None:
            raise ValueError("--val-data is for one training; here the folds say what is held out")
        source = open_source(options.data, options.naming)
        items = [item for item in source.items if item.part != "test"]
        if any(item.part == "val" for item in items):
            note(f"{options.data} says itself what to hold out; the folds are drawn from its train and val images")
        return [item.name for item in items], [item.label for item in items]

    def rank_by(self, options: TrainConfig) -> str:
        return "val_accuracy"

    def job(self, options: TrainConfig) -> Classification:
        begun = RunFolder(options.output).options()
        earlier = bool(begun) and "value_range" not in begun  # by a version without the option
        return Classification(self, options, Reading("earlier", options.max_pixels) if earlier else None)

    def frames(self, trained: Trained[Spec], options: AnimateConfig) -> Iterable[Frame]:
        """An image's channels after every step, and the probabilities that the classes would have."""
        spec, reading = trained.spec, Reading(trained.spec.recipe.value_range, options.max_pixels)
        pixels = torch.from_numpy(read_image(options.input, spec.recipe.size, reading))
        reading.notes.say()
        states = spec.states(pixels, options.seed)
        probabilities = [spec.classifier.head(state[None]).softmax(1)[0].tolist() for state in states]
        return list(pictures.film(states, probabilities, spec.recipe, options.input.name))


TASK = ClassificationTask()
