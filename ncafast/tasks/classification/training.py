"""Training a classifier: the task's part of the loop in `ncafast.train`, which can be stopped at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncafast.models import MaxNCA
from ncafast.tasks.classification import augment, pictures
from ncafast.tasks.classification.config import TrainConfig
from ncafast.tasks.classification.data import load_sides
from ncafast.tasks.classification.inference import Classifier, panel, seeded, step_statistics
from ncafast.tasks.classification.loss import classification_loss
from ncafast.tasks.classification.metrics import measure
from ncafast.tasks.classification.model_file import load_model, save_model
from ncafast.tasks.classification.recipe import Recipe
from ncafast.tasks.images import Reading
from ncafast.train import Job, Moment, Report, run
from ncafast.train.run_folder import FREE, RunFolder
from ncafast.train.settings import check_settings
from ncafast.utils.devices import resolve_device
from ncafast.utils.outputs import check_apart
from ncafast.utils.progress import is_first
from ncafast.utils.seeds import generator, mix
from ncafast.viz.figures import write_png

# What these lead to, the images, is compared itself.
_FREE = FREE | {"data", "val_data", "train_list", "val_list", "naming", "val_fraction", "value_range", "max_pixels"}


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has come to."""

    folder: Path
    best: Path
    """The checkpoint with the highest held-out accuracy (with nothing held out, the lowest training loss)."""
    last: Path
    best_epoch: int
    best_accuracy: float | None
    """Share of the held-out images, one view of each; None if nothing was held out."""
    history: tuple[dict[str, Any], ...]
    """One row per epoch, as in history.csv."""
    skipped: tuple[str, ...]
    """One line for each image that was left out."""


def train(config: TrainConfig) -> Result:
    """Train as configured, or go on with the run that was begun in ``config.out``.

    Raises ValueError for options, data or a run folder that cannot be used, and TrainingStopped if the loss becomes
    infinite or NaN.
    """
    check(config)
    settled = RunFolder(config.out).settled()
    kind = config.augment if config.augment != "auto" else settled.get("augment") or augment.resolve("auto")
    config = replace(config, device=str(resolve_device(config.device)), augment=augment.resolve(kind))
    earlier = bool(settled) and "value_range" not in settled  # the run was begun by a version without the option
    job = _Classification(config, Reading("earlier", config.max_pixels) if earlier else None)
    opening = f"{len(job.train)} images of {len(job.recipe.classes)} classes to train on, {len(job.held_out)} held out"
    checksums = {"train": job.train.checksums(), "held_out": job.held_out.checksums()}
    done = run(job, config, data=checksums, free=_FREE, things="images", opening=opening)
    if is_first() and config.pictures:
        _draw_states(job, done.best, config)
    return Result(
        folder=done.folder,
        best=done.best,
        last=done.last,
        best_epoch=done.best_epoch,
        best_accuracy=done.best_score if len(job.held_out) else None,
        history=done.history,
        skipped=job.skipped,
    )


class _Classification(Job):
    """Images, judged by the accuracy on held-out ones."""

    model: MaxNCA

    def __init__(self, config: TrainConfig, reading: Reading | None = None) -> None:
        self.config, reading = config, reading or Reading.of(config)
        sides = load_sides(config, reading)
        self.train, self.held_out, self.skipped = sides.train, sides.held_out, sides.skipped
        self.samples = len(self.train)
        self.recipe = Recipe.of(sides.classes, self.train.pixels, config.steps[1], reading.value_range)
        self.panel = panel(self.train.labels, len(sides.classes))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix("init", config.seed))
            self.model = MaxNCA(
                config.state_channels,
                1 - config.fire_rate,
                device="cpu",
                hidden_size=config.hidden,
                num_classes=len(sides.classes),
            )

    def plan(self, epoch: int, batch: int, seed: int) -> Sequence[Sequence[int]]:
        """All images once, or as many draws in which every class is equally likely."""
        if not self.config.balanced:
            return super().plan(epoch, batch, seed)
        weights = 1 / torch.bincount(self.train.labels)[self.train.labels].double()
        own = generator("balanced", seed, epoch)
        drawn = torch.multinomial(weights, self.samples, replacement=True, generator=own).tolist()
        return [drawn[start : start + batch] for start in range(0, self.samples, batch)]

    def load(self, at: Moment) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W], varied, and their labels [B]. Image by image, so that parts of a batch vary alike."""
        images = self.recipe.scaled(self.train.pixels[at.own])
        varied = [
            augment.vary(image[None], self.config.augment, self.config.jitter, at.generator("augment", place))
            for image, place in zip(images, at.places, strict=True)
        ]
        return torch.cat(varied), self.train.labels[at.own]

    def losses(self, batch: tuple[Tensor, Tensor], at: Moment) -> Tensor:
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
        picture = pictures.confusion(score.confusion, self.recipe.classes, f"held out, epoch {report.epoch}")
        write_png(report.folder.path / "confusion.png", picture)
        report.board.picture(report.step, "held out/confusion", picture)
        loss = classification_loss(self.config.loss, logits, self.held_out.labels).item()
        return dict(zip(names, (loss, score.accuracy, score.f1_weighted, score.f1_macro), strict=True))

    def classifier(self) -> Classifier:
        """The model as it is now, with its statistics on the panel."""
        images = self.recipe.scaled(self.train.pixels[self.panel]).to(self.model.fc2.weight.device)
        return Classifier(self.model, step_statistics(self.model, images, self.recipe.steps, self.config.seed))

    def score(self, row: dict[str, Any]) -> float:
        """Held-out accuracy; the training loss where nothing is held out."""
        return float(-row["loss"] if row["val_accuracy"] is None else row["val_accuracy"])

    def draw(self, history: Sequence[dict[str, Any]], best_epoch: int, report: Report) -> None:
        """The curves."""
        write_png(report.folder.curves, pictures.curves(history, best_epoch))

    def headline(self, row: dict[str, Any]) -> str:
        """Held-out accuracy and F1."""
        if row["val_accuracy"] is None:
            return ""
        return f", held-out accuracy {row['val_accuracy']:.4f}, F1 {row['val_f1_macro']:.4f}"

    def save_model(self, path: Path, facts: dict[str, int]) -> None:
        """With the recipe and the statistics."""
        save_model(path, self.classifier(), self.recipe, **facts)


def _draw_states(job: _Classification, best: Path, config: TrainConfig) -> None:
    """Channels over time of some held-out images, spread over the classes."""
    trained = load_model(best, torch.device(config.device))
    images = job.held_out if len(job.held_out) else job.train
    order = sorted(range(len(images)), key=lambda place: mix("shown", images.names[place]))
    for place in order[: config.pictures]:
        scaled = job.recipe.scaled(images.pixels[place : place + 1])
        found = trained.classifier.probabilities(scaled, seed=config.seed)[0]
        states = trained.classifier.states(scaled.to(config.device), mix("predict", config.seed, 0))
        true = job.recipe.classes[int(images.labels[place])]
        title = f"{images.names[place]}: {true}, found {job.recipe.classes[int(found.argmax())]}"
        picture = pictures.channels_over_time([x[0] for x in states], found.tolist(), job.recipe, title)
        write_png(best.parent / "pictures" / f"{Path(images.names[place]).stem}.png", picture)


def check(config: TrainConfig) -> None:
    """Raise ValueError for options that cannot be used, before any file is read."""
    check_settings(config, steps=1, size=2, state_channels=4)
    check_apart("--out", config.out, "--data", config.data)
    check_apart("--out", config.out, "--val-data", config.val_data)
