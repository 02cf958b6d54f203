"""Training cells to agree on a digit: the task's part of the loop in `ncafast.train`."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncafast.models import SelfClassifyingNCA
from ncafast.tasks.base import Task, TaskJob, initialised
from ncafast.tasks.selfclassify import pictures
from ncafast.tasks.selfclassify.idx import CLASSES, Digits
from ncafast.tasks.selfclassify.metrics import LOSSES, Tally, tally
from ncafast.tasks.selfclassify.options import TrainConfig
from ncafast.tasks.selfclassify.running import each_batch
from ncafast.tasks.selfclassify.states import brightness, exchange, fresh_states
from ncafast.train import Report, StepContext
from ncafast.train.pool import Pool, PoolJob
from ncafast.utils.seeds import generator
from ncafast.viz.visual import Visual

_LATER = 4  # times the trained length, at which held-out digits are looked at again
_SHOWN = 20
_VISUALS = 3


class SelfClassifying(TaskJob, PoolJob):
    """Digits from a pool, of which a part of every batch gets other digits, with or without their states."""

    model: SelfClassifyingNCA
    panels = pictures.PANELS
    epoch_length = 200

    def __init__(self, task: Task[Any], config: TrainConfig, digits: Digits) -> None:
        self.task, self.config = task, config
        if config.val_count >= len(digits):
            raise ValueError(
                f"val_count={config.val_count} leaves nothing to train on: {digits.folder} holds {len(digits)} digits"
            )
        last = len(digits) - config.val_count
        self.digits, self.held_out = digits.part(0, last), digits.part(last, len(digits))
        self.loss = LOSSES[config.loss]
        self.model = _new_model(config)
        self.labels = torch.zeros(config.pool_size, dtype=torch.int64)  # of the pool's digits
        self.pool = Pool.create(config.pool_size, self._first)

    def checksums(self) -> dict[str, dict[str, int]]:
        """Of both sides of the split."""
        sides = {"train": self.digits, "held_out": self.held_out}
        return {
            name: {"images": zlib.crc32(side.images.tobytes()), "labels": zlib.crc32(side.labels.tobytes())}
            for name, side in sides.items()
        }

    def opening(self) -> str:
        return f"{len(self.digits)} digits to train on, {len(self.held_out)} held out"

    def begin_step(self, at: StepContext) -> None:
        """Other digits for the first samples of the batch, which start anew, and for the last, which do not."""
        count = len(at.numbers)
        pooled = at.step >= self.config.pool_after
        first = round(self.config.fresh * count) if pooled else count
        last = min(round(self.config.mutate * count), count - first)  # both may be rounded up
        fresh, mutated = list(at.numbers[:first]), list(at.numbers[count - last :])
        images, labels = self._draw(len(fresh) + len(mutated), at.generator("digits"))
        self.labels[fresh + mutated] = labels
        self.pool.put(fresh, fresh_states(images[: len(fresh)], self.config.state_channels))
        self.pool.put(mutated, exchange(self.pool.take(mutated), images[len(fresh) :]))

    def load(self, at: StepContext) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return self.pool.take(at.micro_batch), self.labels[at.micro_batch]

    def losses(self, batch: tuple[Tensor, Tensor], at: StepContext) -> Tensor:
        states, labels = batch
        after = self.model(states.movedim(1, -1), at.steps, **at.options).movedim(-1, 1)
        at.keep(after)
        return self.loss(after, labels)

    def validate(self, report: Report) -> dict[str, Any]:
        """Accuracy of held-out digits' cells and votes at the trained length, and of cells later on."""
        count = min(self.config.measured, len(self.held_out))
        if not count:
            return {"val_cells": None, "val_votes": None, "val_cells_later": None}
        self.model.eval()
        images, labels = brightness(self.held_out.images[:count]), _labels(self.held_out.labels[:count])
        usual = self.config.steps[1]
        counts = (usual, _LATER * usual)
        tallies = dict.fromkeys(counts, Tally())
        for step, indices, states in each_batch(self.model, images, counts, batch=50, seed=self.config.seed):
            tallies[step] += tally(states, labels[indices].to(states.device))
            if step == usual and indices.start == 0:
                shown = states[:_SHOWN].cpu()
        name = f"epoch-{report.epoch:04d}.png"
        self.picture(report, report.folder.pictures / name, lambda: pictures.sheet(pictures.colour(shown), zoom=3))
        first, later = tallies.values()
        return {
            "val_cells": first.cell_accuracy,
            "val_votes": first.vote_accuracy,
            "val_cells_later": later.cell_accuracy,
        }

    def visuals(self) -> Iterable[Visual]:
        """Digits after the steps of training."""
        side, digits = ("held out", self.held_out) if len(self.held_out) else ("training", self.digits)
        images, labels = brightness(digits.images[:_VISUALS]), _labels(digits.labels[:_VISUALS])
        counts = (self.config.steps[1],)
        for _, _, states in each_batch(self.model, images, counts, batch=_VISUALS, seed=self.config.seed):
            for number, (state, label) in enumerate(zip(states.cpu(), labels.tolist(), strict=True)):
                hidden, title = state[CLASSES:-1], f"{side} digit {number}, a {label}"
                look: dict[str, Any] = {"first": CLASSES, "title": title, "legend": pictures.DIGITS}
                yield Visual(f"{side}/{number}", pictures.views(state, label), hidden, **look)

    def score(self, row: dict[str, Any]) -> float:
        if row["val_cells"] is None:
            return super().score(row)
        return (row["val_cells"] + row["val_cells_later"]) / 2

    @property
    def metadata(self) -> dict[str, str]:
        return {"steps": str(self.config.steps[1])}

    def state(self) -> dict[str, Any]:
        return {**self.pool.state(), "labels": self.labels}

    def load_state(self, state: dict[str, Any]) -> None:
        self.pool.load_state(state)
        labels = state["labels"]
        if labels.shape != self.labels.shape or not ((labels >= 0) & (labels < CLASSES)).all():
            raise ValueError("the labels of the pool do not fit")
        self.labels = labels.long()

    def _first(self, numbers: Sequence[int]) -> Tensor:
        """Fresh states for the whole pool."""
        images, self.labels = self._draw(len(numbers), generator("digits", self.config.seed))
        return fresh_states(images, self.config.state_channels)

    def _draw(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Training images [count, H, W] and their labels [count]."""
        chosen = torch.randint(len(self.digits), (count,), generator=random).numpy()
        return brightness(self.digits.images[chosen]), _labels(self.digits.labels[chosen])


def _labels(labels: Any) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))  # a copy: the file's own bytes are read-only


def _new_model(config: TrainConfig) -> SelfClassifyingNCA:
    """The model with wider first weights than the example's.

    All channels but the image's begin at 0, so the image's weights start as wide as if it were the only channel, and
    what ReLU halves is made up for. Mean cross-entropy of steps 201 to 300, batches of 16 from fresh states: 1.94 at a
    learning rate of 0.0015; with the example's widths 2.02 at 0.001 and 1.98 at 0.003 (one seed each, 2026-11-24).
    """
    sizes = config.state_channels, config.perception, config.hidden, config.dropout
    model: SelfClassifyingNCA = initialised(lambda: SelfClassifyingNCA(*sizes), config.seed)
    with torch.no_grad():
        model.perceive.conv.weight[:, -1] *= math.sqrt(config.state_channels)
        for layer in (model.perceive.conv, *model.update.layers[:-1]):
            layer.weight *= math.sqrt(2.0)
    return model
