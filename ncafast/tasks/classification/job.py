"""Training a classifier: the task's part of the loop in `ncafast.train`, which can be stopped at any moment."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncafast.models import MaxNCA
from ncafast.tasks.base import Task, TaskJob, initialised, load
from ncafast.tasks.classification import augment, pictures
from ncafast.tasks.classification.data import load_sides
from ncafast.tasks.classification.inference import Classifier, Spec, panel, seeded, step_statistics
from ncafast.tasks.classification.metrics import classification_loss, measure
from ncafast.tasks.classification.options import TrainConfig
from ncafast.tasks.classification.recipe import Recipe
from ncafast.tasks.images import Reading
from ncafast.train import Report, Result, StepContext
from ncafast.utils.devices import resolve_device
from ncafast.utils.seeds import generator, mix
from ncafast.viz import charts
from ncafast.viz.figures import write_png
from ncafast.viz.visual import Visual


class Classification(TaskJob):
    """Images, judged by the accuracy on held-out ones."""

    model: MaxNCA
    panels = pictures.PANELS

    def __init__(self, task: Task[Any], config: TrainConfig, reading: Reading | None = None) -> None:
        self.task, self.config, reading = task, config, reading or Reading.of(config)
        sides = load_sides(config, reading)
        self.train, self.held_out, self.skipped = sides.train, sides.held_out, sides.skipped
        self.samples = len(self.train)
        self.recipe = Recipe.of(sides.classes, self.train.pixels, config.steps[1], reading.value_range)
        self.panel = panel(self.train.labels, len(sides.classes))
        sizes: dict[str, Any] = {"hidden_size": config.hidden, "num_classes": len(sides.classes)}
        self.model = initialised(
            lambda: MaxNCA(config.state_channels, 1 - config.fire_rate, device="cpu", **sizes), config.seed
        )

    def checksums(self) -> dict[str, dict[str, int]]:
        return {"train": self.train.checksums(), "held_out": self.held_out.checksums()}

    def opening(self) -> str:
        sizes = len(self.train), len(self.recipe.classes), len(self.held_out)
        return "{} images of {} classes to train on, {} held out".format(*sizes)

    def plan(self, epoch: int, batch: int, seed: int) -> Sequence[Sequence[int]]:
        """All images once, or as many draws in which every class is equally likely."""
        if not self.config.balanced:
            return super().plan(epoch, batch, seed)
        weights = 1 / torch.bincount(self.train.labels)[self.train.labels].double()
        random = generator("balanced", seed, epoch)
        drawn = torch.multinomial(weights, self.samples, replacement=True, generator=random).tolist()
        return [drawn[start : start + batch] for start in range(0, self.samples, batch)]

    def load(self, at: StepContext) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W], varied, and their labels [B]. Image by image, so that parts of a batch vary alike."""
        images = self.recipe.scaled(self.train.pixels[at.micro_batch])
        varied = [
            augment.vary(image[None], self.config.augment, self.config.jitter, at.generator("augment", index))
            for image, index in zip(images, at.indices, strict=True)
        ]
        return torch.cat(varied), self.train.labels[at.micro_batch]

    def losses(self, batch: tuple[Tensor, Tensor], at: StepContext) -> Tensor:
        """Of the images' classes after the steps of this training step."""
        images, labels = batch
        state = seeded(images, self.model.channel_n)
        logits, _ = self.model(state, at.steps, fire_rate=None, **at.options)
        return classification_loss(self.config.loss, logits, labels)

    def validate(self, report: Report) -> dict[str, Any]:
        """Loss, accuracy and F1 of the held-out images, one view of each."""
        names = ("val_loss", "val_accuracy", "val_f1_weighted", "val_f1_macro")
        if not len(self.held_out):
            return dict.fromkeys(names)
        classifier, seed = self.classifier(), mix("predict", self.config.seed, 0)
        images = self.recipe.scaled(self.held_out.pixels).to(self.model.fc2.weight.device)
        logits = torch.cat([classifier.logits(group, seed).cpu() for group in images.split(64)])
        score = measure(logits.argmax(1), self.held_out.labels, len(self.recipe.classes))
        title = f"held out, epoch {report.epoch}"
        draw = partial(charts.confusion, score.confusion, self.recipe.classes, title)
        self.picture(report, report.folder.path / "confusion.png", draw, "held out/confusion")
        loss = classification_loss(self.config.loss, logits, self.held_out.labels).item()
        return dict(zip(names, (loss, score.accuracy, score.f1_weighted, score.f1_macro), strict=True))

    def visuals(self) -> Iterable[Visual]:
        """Images with the probabilities of their classes."""
        side, images = ("held out", self.held_out) if len(self.held_out) else ("training", self.train)
        spec = Spec(self.classifier(), self.recipe)
        for index in self._chosen(images):
            state = spec.states(images.pixels[index], self.config.seed)[-1]
            found = spec.classifier.head(state[None]).softmax(1)[0].tolist()
            yield pictures.visual(f"{side}/{images.names[index]}", images.pixels[index], state, found,
                                  self.recipe.classes, int(images.labels[index]))  # fmt: skip

    def _chosen(self, images: Any) -> list[int]:
        """Some of the images, spread over the classes."""
        return sorted(range(len(images)), key=lambda index: mix("shown", images.names[index]))[: self.config.pictures]

    def classifier(self) -> Classifier:
        """The model as it is now, with its statistics on the panel."""
        images = self.recipe.scaled(self.train.pixels[self.panel]).to(self.model.fc2.weight.device)
        return Classifier(self.model, step_statistics(self.model, images, self.recipe.steps, self.config.seed))

    def score(self, row: dict[str, Any]) -> float:
        """Held-out accuracy; the training loss where nothing is held out."""
        return float(-row["loss"] if row["val_accuracy"] is None else row["val_accuracy"])

    @property
    def metadata(self) -> dict[str, str]:
        """The recipe, and the statistics of the model as it is now."""
        return {"recipe": self.recipe.to_json(), "statistics": json.dumps(self.classifier().statistics.tolist())}

    def finish(self, done: Result) -> None:
        """Draw the channels over time of some held-out images, spread over the classes."""
        if not self.config.pictures:
            return
        spec = load(self.task, done.best, resolve_device(self.config.device)).spec
        images = self.held_out if len(self.held_out) else self.train
        for index in self._chosen(images):
            pixels, true = images.pixels[index], spec.recipe.classes[int(images.labels[index])]
            probabilities = spec.probabilities(pixels, self.config.seed)
            title = f"{images.names[index]}: {true}, found {spec.recipe.classes[int(probabilities.argmax())]}"
            picture = pictures.channels_over_time(
                spec.states(pixels, self.config.seed), probabilities.tolist(), spec.recipe, title
            )
            write_png(done.folder / "pictures" / f"{Path(images.names[index]).stem}.png", picture)
