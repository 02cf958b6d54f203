"""Classifying images one by one, whatever the batch they come in.

MaxNCA normalises by the statistics of its batch, in evaluation too. Taken literally, the class of an image would depend
on the images beside it: a model with 0.84 accuracy on mixed batches of 40 cells found 0.60 of the same cells sorted by
class and 0.47 of them one at a time (blood_pbc, 200 held-out cells). So the statistics of every step are taken once, on
training images, and kept with the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ncafast.convergence import each
from ncafast.functional import fire_mask
from ncafast.models import MaxNCA
from ncafast.rule import Rule
from ncafast.tasks.classification.augment import views
from ncafast.tasks.classification.recipe import Recipe
from ncafast.tasks.stopping import Stopping
from ncafast.trace import Options, trace
from ncafast.utils.option_checks import refused
from ncafast.utils.progress import Bar
from ncafast.utils.seeds import mix

PANEL = 256  # training images, as many of each class, whose statistics are kept
GROUP = 64  # images whose states are in memory at a time


def seeded(images: Tensor, channels: int) -> Tensor:
    """Scaled images [B, 3, H, W] -> MaxNCA's state [B, H, W, channels], the other channels 0."""
    return F.pad(images.movedim(1, -1), (0, channels - images.shape[1]))


def panel(labels: Tensor, classes: int) -> list[int]:
    """Indices of up to `PANEL` images with the classes as equally often as can be, the first of each class."""
    indices = [torch.nonzero(labels == k).flatten()[: -(-PANEL // classes)] for k in range(classes)]
    return torch.cat(indices).tolist()[:PANEL]


@torch.no_grad()
def step_statistics(model: MaxNCA, images: Tensor, steps: int, seed: int = 0) -> Tensor:
    """Mean and variance of the hidden layer at every step on these scaled images: [steps, 2, hidden]."""
    x = seeded(images, model.channel_n).movedim(-1, 1)
    return trace(x, model.rule, model.params(), steps, Options(seed=mix("statistics", seed))).stats


class _Course(NamedTuple):
    """Steps of which each has statistics of its own; all images see the same fire masks."""

    rule: Rule
    params: dict[str, Tensor]
    statistics: Tensor
    seed: int

    def advance(self, x: Tensor, step: int) -> Tensor:
        """The state after step number `step`, from 0."""
        mean, variance = self.statistics[step].to(x.device)
        tensors = self.params | {"norm.running_mean": mean, "norm.running_var": variance}
        mask = fire_mask((1, *x.shape[1:]), self.rule.fire_rate, self.seed, step=step, device=x.device)
        return trace(x, self.rule, tensors, 1, Options(fire_mask=mask[None])).out

    def steps(self, state: Tensor, done: int, count: int, start: int, batch: int) -> tuple[Tensor, Tensor]:
        """One step, as `ncafast.convergence.Course`; what counts is the change of the hidden channels."""
        after = self.advance(state, done)
        return after[None], (after - state)[:, self.rule.lo :].abs().flatten(1).double().mean(1)[None]


@dataclass(frozen=True, slots=True)
class Classifier:
    """A MaxNCA with the statistics it normalises by. All images see the same fire masks, those of `seed`."""

    model: MaxNCA
    statistics: Tensor  # [steps, 2, hidden]

    @torch.no_grad()
    def states(self, images: Tensor, seed: int) -> list[Tensor]:
        """The state [B, C, H, W] after 0, 1, ... all steps, from scaled images [B, 3, H, W]."""
        course, states = self._course(seed), [self._begin(images)]
        for step in range(len(self.statistics)):
            states.append(course.advance(states[-1], step))
        return states

    def _begin(self, images: Tensor) -> Tensor:
        return seeded(images, self.model.channel_n).movedim(-1, 1).contiguous()

    def _course(self, seed: int) -> _Course:
        return _Course(self.model.rule.replace(norm="running"), self.model.params(), self.statistics, seed)

    def check(self, stopping: Stopping) -> None:
        """Raise ValueError for more steps than there are statistics of."""
        known = len(self.statistics)
        if stopping.most is not None and stopping.most > known:
            allowed = f"the model's norm has statistics of {known} steps, so give no more"
            raise refused("max_steps", stopping.most, allowed)

    @torch.no_grad()
    def logits(self, images: Tensor, seed: int, stopping: Stopping | None = None) -> Tensor:
        """[B, K] of scaled images [B, 3, H, W]."""
        if stopping is None or stopping.until is None:
            return self.head(self.states(images, seed)[-1])
        most = len(self.statistics) if stopping.most is None else stopping.most
        found = each(self._begin(images), self._course(seed), stopping.until, most, 1)
        for taken, converged in zip(found.steps.tolist(), found.converged.tolist(), strict=True):
            stopping.note([taken], converged)
        return self.head(found.state)

    @torch.no_grad()
    def head(self, state: Tensor) -> Tensor:
        """[B, K], what a state [B, C, H, W] would be classified as."""
        return self.model._head(state)

    def probabilities(
        self,
        images: Tensor,
        *,
        seed: int = 0,
        count: int = 1,
        bar: Bar | None = None,
        stopping: Stopping | None = None,
    ) -> Tensor:
        """[N, K] on the CPU, softmax of the logits, the mean over `count` views, each with firing cells of its own."""
        parts = [torch.zeros(0, self.model.num_classes)]
        for group in images.split(GROUP):
            turned = views(group.to(self.model.fc2.weight.device), count)
            found = [self.logits(view, mix("predict", seed, k), stopping).softmax(1) for k, view in enumerate(turned)]
            parts.append(torch.stack(found).mean(0).cpu())
            if bar is not None:
                bar.advance({}, len(group))
        return torch.cat(parts)


@dataclass(frozen=True, slots=True)
class Spec:
    """A classifier, and what its input must look like."""

    classifier: Classifier
    recipe: Recipe

    @classmethod
    def read(cls, model: MaxNCA, metadata: dict[str, str]) -> Spec:
        """From a checkpoint. Raises ValueError, KeyError or TypeError for what does not fit."""
        recipe = Recipe.from_json(metadata["recipe"])
        statistics = torch.tensor(json.loads(metadata["statistics"]), dtype=torch.float32)
        if not torch.isfinite(statistics).all():
            raise ValueError("statistics holds NaN or infinite values")
        if len(recipe.classes) != model.num_classes:
            raise ValueError(f"the model has num_classes={model.num_classes}, its recipe names {len(recipe.classes)}")
        if statistics.shape != (recipe.steps, 2, model.hidden_size):
            raise ValueError(f"statistics of shape {list(statistics.shape)} do not fit {recipe.steps} steps")
        return cls(Classifier(model, statistics), recipe)

    def probabilities(self, pixels: Tensor, seed: int, count: int = 1, stopping: Stopping | None = None) -> Tensor:
        """[K] of one image [size, size, 3] uint8; see `Classifier.probabilities`."""
        images = self.recipe.scaled(pixels[None])
        return self.classifier.probabilities(images, seed=seed, count=count, stopping=stopping)[0]

    def states(self, pixels: Tensor, seed: int) -> list[Tensor]:
        """The state [C, H, W] of one image after 0, 1, ... all steps, as `probabilities` sees its first view."""
        scaled = self.recipe.scaled(pixels[None]).to(self.classifier.model.fc2.weight.device)
        return [state[0] for state in self.classifier.states(scaled, mix("predict", seed, 0))]
