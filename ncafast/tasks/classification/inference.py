"""Classifying images one by one, whatever the batch they come in.

MaxNCA normalises by the statistics of its batch, in evaluation too. Taken literally, the class of an image would depend
on the images beside it: a model with 0.84 accuracy on mixed batches of 40 cells found 0.60 of the same cells sorted by
class and 0.47 of them one at a time (blood_pbc, 200 held-out cells). So the statistics of every step are taken once, on
training images, and kept with the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ncafast.functional import fire_mask
from ncafast.models import MaxNCA
from ncafast.tasks.classification.augment import views
from ncafast.tasks.classification.recipe import Recipe
from ncafast.trace import Options, trace
from ncafast.utils.progress import Bar
from ncafast.utils.seeds import mix

PANEL = 256  # training images, as many of each class, whose statistics are kept
GROUP = 64  # images whose states are in memory at a time


def seeded(images: Tensor, channels: int) -> Tensor:
    """Scaled images [B, 3, H, W] -> MaxNCA's state [B, H, W, channels], the other channels 0."""
    return F.pad(images.movedim(1, -1), (0, channels - images.shape[1]))


def panel(labels: Tensor, classes: int) -> list[int]:
    """Indices of up to `PANEL` images with the classes as equally often as can be, the first of each class."""
    each = [torch.nonzero(labels == k).flatten()[: -(-PANEL // classes)] for k in range(classes)]
    return torch.cat(each).tolist()[:PANEL]


@torch.no_grad()
def step_statistics(model: MaxNCA, images: Tensor, steps: int, seed: int = 0) -> Tensor:
    """Mean and variance of the hidden layer at every step on these scaled images: [steps, 2, hidden]."""
    x = seeded(images, model.channel_n).movedim(-1, 1)
    return trace(x, model.rule, model.params(), steps, Options(seed=mix("statistics", seed))).stats


@dataclass(frozen=True, slots=True)
class Classifier:
    """A MaxNCA with the statistics it normalises by. All images see the same fire masks, those of `seed`."""

    model: MaxNCA
    statistics: Tensor  # [steps, 2, hidden]

    @torch.no_grad()
    def states(self, images: Tensor, seed: int) -> list[Tensor]:
        """The state [B, C, H, W] after 0, 1, ... all steps, from scaled images [B, 3, H, W]."""
        rule, params = self.model.rule.replace(norm="running"), self.model.params()
        x = seeded(images, self.model.channel_n).movedim(-1, 1).contiguous()
        states = [x]
        for step, (mean, variance) in enumerate(self.statistics.to(x.device)):
            tensors = params | {"norm.running_mean": mean, "norm.running_var": variance}
            mask = fire_mask((1, *x.shape[1:]), rule.fire_rate, seed, step=step, device=x.device)
            x = trace(x, rule, tensors, 1, Options(fire_mask=mask[None])).out
            states.append(x)
        return states

    @torch.no_grad()
    def logits(self, images: Tensor, seed: int) -> Tensor:
        """[B, K] of scaled images [B, 3, H, W]."""
        return self.head(self.states(images, seed)[-1])

    @torch.no_grad()
    def head(self, state: Tensor) -> Tensor:
        """[B, K], what a state [B, C, H, W] would be classified as."""
        logits: Tensor = self.model.fc3(F.relu(self.model.fc2(state.amax((2, 3)))))
        return logits

    def probabilities(self, images: Tensor, *, seed: int = 0, count: int = 1, bar: Bar | None = None) -> Tensor:
        """[N, K] on the CPU, softmax of the logits, the mean over `count` views, each with firing cells of its own."""
        parts = [torch.zeros(0, self.model.num_classes)]
        for group in images.split(GROUP):
            turned = views(group.to(self.model.fc2.weight.device), count)
            each = [self.logits(view, mix("predict", seed, k)).softmax(1) for k, view in enumerate(turned)]
            parts.append(torch.stack(each).mean(0).cpu())
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

    def probabilities(self, pixels: Tensor, seed: int, count: int = 1) -> Tensor:
        """[K] of one image [size, size, 3] uint8; see `Classifier.probabilities`."""
        return self.classifier.probabilities(self.recipe.scaled(pixels[None]), seed=seed, count=count)[0]

    def states(self, pixels: Tensor, seed: int) -> list[Tensor]:
        """The state [C, H, W] of one image after 0, 1, ... all steps, as `probabilities` sees its first view."""
        scaled = self.recipe.scaled(pixels[None]).to(self.classifier.model.fc2.weight.device)
        return [state[0] for state in self.classifier.states(scaled, mix("predict", seed, 0))]
