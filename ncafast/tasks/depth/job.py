"""Training a cascade to estimate depth: the task's part of the loop in `ncafast.train`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncafast.tasks.base import Task
from ncafast.tasks.cascade_job import CascadeJob
from ncafast.tasks.depth import pictures
from ncafast.tasks.depth.data import Sample, load
from ncafast.tasks.depth.inference import Estimator
from ncafast.tasks.depth.metrics import depth_losses, measure
from ncafast.tasks.depth.options import TrainConfig
from ncafast.tasks.depth.recipe import Recipe
from ncafast.tasks.mask_scores import mean
from ncafast.tasks.planes import padded, padded_size
from ncafast.train import Report, StepContext
from ncafast.viz.views import View


class Depth(CascadeJob):
    """Images and depth maps, judged by the mean relative error on held-out images."""

    config: TrainConfig
    recipe: Recipe
    panels = pictures.PANELS
    upright = True

    def __init__(self, task: Task[Any], config: TrainConfig) -> None:
        self.task, self.config = task, config
        (self.train, self.held_out, self.skipped), self.recipe = load(config)
        self.begin(1)
        self.estimator = Estimator(self.model, self.recipe)

    def opening(self) -> str:
        return f"{self.samples} images to train on, {len(self.held_out)} held out"

    def load(self, at: StepContext) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W], varied, and metres [B, 1, H, W], NaN where they are unknown or padded."""
        found = self.varied(at, lambda sample: sample.depth)
        sides = zip(*(depth.shape for _, depth in found), strict=True)
        size = [padded_size(max(12, *each), self.config.scales[0]) for each in sides]  # SSIM's window needs 6
        images = [padded(image, size) for image, _ in found]
        depths = [padded(depth.nan_to_num(0.0)[None], size) for _, depth in found]
        return torch.stack(images), torch.stack(depths)

    def judge(self, outputs: Tensor, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        image, metres = batch
        known = (metres > 0).float()
        target = (metres.clamp_min(1e-3).log() - self.recipe.log_mean) / self.recipe.log_std * known
        weights = self.config.ssim, self.config.smoothness
        return depth_losses(self.config.loss, outputs, target, known, image, *weights)

    def validate(self, report: Report) -> dict[str, Any]:
        """Measures of the held-out images, and the relative error of a constant depth; None where nothing is held
        out."""
        if not self.held_out:
            return dict.fromkeys(("val_abs_rel", "val_rmse", "val_delta1", "val_constant"))
        self.model.eval()
        table, constant = [], []
        for number, sample in enumerate(self.held_out):
            depth = self.estimator.metres(self.estimator.moments(sample.pixels, seed=self.config.seed))
            table.append(measure(depth, sample.depth))
            constant.append(measure(self.recipe.constant_depth(sample.pixels), sample.depth)["abs_rel"])
            if number < self.config.pictures:
                title = f"{sample.name}, |error| / depth {table[-1]['abs_rel']:.3f}"
                draw = partial(pictures.beside, sample.pixels, depth, title, sample.depth)
                self.picture(report, report.folder.pictures / f"{Path(sample.name).stem}.png", draw)
        means = {f"val_{name}": mean([row[name] for row in table]) for name in ("abs_rel", "rmse", "delta1")}
        return means | {"val_constant": mean(constant)}

    def views(self, sample: Sample, outputs: Tensor) -> list[View]:
        return pictures.views(sample.depth, self.recipe.metres(outputs[0].numpy()))

    def score(self, row: dict[str, Any]) -> float:
        """Minus the held-out relative error; the training loss where nothing is held out."""
        return -float(row["loss"] if row["val_abs_rel"] is None else row["val_abs_rel"])
