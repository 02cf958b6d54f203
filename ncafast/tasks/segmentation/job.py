"""Training a cascade to segment images: the task's part of the loop in `ncafast.train`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncafast.losses import BinaryFocalLoss, DiceBCELoss, DiceLoss
from ncafast.losses.masks import dice
from ncafast.tasks.base import Task
from ncafast.tasks.cascade_job import CascadeJob
from ncafast.tasks.label_views import label_views
from ncafast.tasks.mask_scores import mean
from ncafast.tasks.planes import Planes, collate
from ncafast.tasks.segmentation import pictures
from ncafast.tasks.segmentation.data import Sample, load
from ncafast.tasks.segmentation.inference import Segmenter
from ncafast.tasks.segmentation.options import TrainConfig
from ncafast.tasks.segmentation.recipe import Recipe
from ncafast.train import Report, StepContext
from ncafast.viz.views import View, class_legend


class Segmentation(CascadeJob):
    """Images and masks, judged by the Dice of held-out images."""

    recipe: Recipe
    panels = pictures.PANELS

    def __init__(self, task: Task[Any], config: TrainConfig) -> None:
        self.task, self.config = task, config
        (self.train, self.held_out, self.skipped), self.recipe = load(config)
        self.begin(len(self.recipe.names))
        self.segmenter = Segmenter(self.model, self.recipe)

    def opening(self) -> str:
        names = ", ".join(self.recipe.names)
        return f"{self.samples} images to train on, {len(self.held_out)} held out; classes: {names}"

    def load(self, at: StepContext) -> tuple[Tensor, ...]:
        """Images [B, 3, H, W], varied, with target and valid planes."""
        found = self.varied(at, lambda sample: sample.labels)
        return tuple(collate(found, len(self.recipe.names), self.config.scales[0]))

    def judge(self, outputs: Tensor, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        return segmentation_losses(self.config.loss, outputs, Planes(*batch))

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
            labels = self.segmenter.labels(sample.pixels, seed=self.config.seed)
            table.append([dice(labels == k, sample.labels == k) for k in range(1, len(names) + 1)])
            if number < self.config.pictures:
                title = f"{sample.name}, Dice {mean(table[-1]):.3f}"
                draw = partial(pictures.overlay, sample.pixels, labels, self.recipe, title, sample.labels)
                self.picture(report, report.folder.pictures / f"{Path(sample.name).stem}.png", draw)
        per_class = [mean(column) for column in zip(*table, strict=True)]
        return {"val_dice": mean(per_class), **dict(zip(columns, per_class, strict=False))}

    @property
    def legend(self) -> dict[str, str]:
        return class_legend(self.recipe.names)

    def views(self, sample: Sample, outputs: Tensor) -> list[View]:
        return label_views(torch.from_numpy(sample.labels), outputs.sigmoid())

    def score(self, row: dict[str, Any]) -> float:
        """Held-out Dice; the training loss where nothing is held out."""
        return float(-row["loss"] if row["val_dice"] is None else row["val_dice"])


def segmentation_losses(kind: str, logits: Tensor, planes: Planes) -> dict[str, Tensor]:
    """The losses that a kind of --loss adds up, by name."""
    given = logits, planes.target, planes.valid
    if kind == "dice-bce":
        return dict(zip(("dice_loss", "bce"), DiceBCELoss().terms(*given), strict=True))
    if kind == "bce":
        return {"bce": BinaryFocalLoss(gamma=0.0)(*given)}
    found = {"dice_loss": DiceLoss()(*given)} if kind.startswith("dice") else {}
    return found if kind == "dice" else found | {"focal_loss": BinaryFocalLoss()(*given)}
