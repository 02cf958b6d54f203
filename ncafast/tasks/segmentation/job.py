"""Training a cascade to segment images: the task's part of the loop in `ncafast.train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncafast.losses import BinaryFocalLoss, DiceBCELoss, DiceLoss
from ncafast.losses.masks import dice
from ncafast.models import CascadeNCA
from ncafast.tasks.base import Task, TaskJob, initialised
from ncafast.tasks.cascades import new_cascade
from ncafast.tasks.colours import tinted
from ncafast.tasks.mask_scores import mean
from ncafast.tasks.planes import Planes, augment, collate, decide
from ncafast.tasks.segmentation import pictures
from ncafast.tasks.segmentation.data import Sample, load_sides
from ncafast.tasks.segmentation.inference import Segmenter
from ncafast.tasks.segmentation.options import TrainConfig
from ncafast.train import Report, Settings, StepContext
from ncafast.train.settings import settings_of
from ncafast.viz.figures import write_png


class Segmentation(TaskJob):
    """Images and masks, judged by the Dice of held-out images."""

    model: CascadeNCA
    panels = pictures.PANELS

    def __init__(self, task: Task[Any], config: TrainConfig) -> None:
        self.task, self.config = task, config
        sides = load_sides(config)
        self.train, self.held_out, self.skipped = sides.train, sides.held_out, sides.skipped
        self.recipe, self.samples = sides.recipe, len(sides.train)
        self.model = initialised(lambda: new_cascade(config), config.seed)
        self.segmenter = Segmenter(self.model, self.recipe)

    def checksums(self) -> dict[str, dict[str, int]]:
        sides = {"train": self.train, "held_out": self.held_out}
        return {name: {sample.name: sample.checksum for sample in side} for name, side in sides.items()}

    def opening(self) -> str:
        names = ", ".join(self.recipe.names)
        return f"{self.samples} images to train on, {len(self.held_out)} held out; classes: {names}"

    def settings(self, options: TrainConfig) -> tuple[Settings, TrainConfig]:
        return settings_of(options), options

    def load(self, at: StepContext) -> tuple[Tensor, Tensor, Tensor]:
        """Images [B, 3, H, W], varied, with target and valid planes; image by image, so that parts of a batch vary
        alike."""
        found = [
            self._varied(self.train[number], at.generator("augment", index))
            for number, index in zip(at.micro_batch, at.indices, strict=True)
        ]
        return tuple(collate(found, len(self.recipe.names), self.config.scales[0]))  # type: ignore[return-value]

    def _varied(self, sample: Sample, random: torch.Generator) -> tuple[Tensor, Tensor]:
        image, labels = self.recipe.scaled(sample.pixels), torch.from_numpy(sample.labels)
        image, labels = augment(image, labels, random, self.config.crop, self.config.flip)
        return (tinted(image[None], self.config.jitter, random)[0] if self.config.jitter else image), labels

    def losses(self, batch: tuple[Tensor, Tensor, Tensor], at: StepContext) -> dict[str, Tensor]:
        planes = Planes(*batch)
        steps = self.model.jittered(at.generator("steps"), self.config.step_jitter)
        logits = self.segmenter.outputs.of(self.model(planes.image, steps, **at.options))
        return segmentation_losses(self.config.loss, logits, planes)

    def validate(self, report: Report) -> dict[str, Any]:
        """Mean Dice over the held-out images, and of each class where there are several; None where nothing is held
        out."""
        names = self.recipe.names
        columns = [f"val_dice_{name}" for name in names] if len(names) > 1 else []
        if not self.held_out:
            return dict.fromkeys(("val_dice", *columns))
        self.model.eval()
        table = []
        for number, sample in enumerate(self.held_out):
            labels = decide(self.segmenter.probability(sample.pixels, seed=self.config.seed)[None])[0].numpy()
            table.append([dice(labels == k, sample.labels == k) for k in range(1, len(names) + 1)])
            if number < self.config.pictures:
                title = f"{sample.name}, Dice {mean(table[-1]):.3f}"
                picture = pictures.overlay(sample.pixels, labels, self.recipe, title, sample.labels)
                write_png(report.folder.pictures / f"{Path(sample.name).stem}.png", picture)
                report.board.picture(report.step, f"held out/{sample.name}", picture)
        per_class = [mean(column) for column in zip(*table, strict=True)]
        return {"val_dice": mean(per_class), **dict(zip(columns, per_class, strict=False))}

    def score(self, row: dict[str, Any]) -> float:
        """Held-out Dice; the training loss where nothing is held out."""
        return float(-row["loss"] if row["val_dice"] is None else row["val_dice"])

    @property
    def metadata(self) -> dict[str, str]:
        return {"recipe": self.recipe.to_json()}


def segmentation_losses(kind: str, logits: Tensor, planes: Planes) -> dict[str, Tensor]:
    """The losses that a kind of --loss adds up, by name."""
    given = logits, planes.target, planes.valid
    if kind == "dice-bce":
        return dict(zip(("dice_loss", "bce"), DiceBCELoss().terms(*given), strict=True))
    if kind == "bce":
        return {"bce": BinaryFocalLoss(gamma=0.0)(*given)}
    found = {"dice_loss": DiceLoss()(*given)} if kind.startswith("dice") else {}
    return found if kind == "dice" else found | {"focal_loss": BinaryFocalLoss()(*given)}
