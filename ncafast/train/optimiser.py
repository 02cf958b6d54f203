"""What changes the weights: the optimiser, its learning rate, what happens to a gradient, and averaging over steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ncafast.training_options import Settings


def make_optimiser(parameters: Iterable[Tensor], settings: Settings) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD with momentum, as the options say."""
    lr, betas, decay = settings.lr, settings.betas, settings.weight_decay
    if settings.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=betas[0], weight_decay=decay)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(parameters, lr=lr, betas=betas, weight_decay=decay)


def shape_gradient(parameters: Iterable[Tensor], *, normalise: bool, clip: float) -> Tensor:
    """Normalise, then clip, in place; returns the norm [] of the gradient as it came (infinite or NaN if any part is).

    Args:
        parameters: tensors; those without a gradient do not count.
        normalise: divide every tensor's gradient by its norm plus 1e-8 (Mordvintsev et al., "Growing Neural Cellular
            Automata", Distill 2020).
        clip: largest norm over all tensors together; 0 for any.
    """
    parameters = list(parameters)
    if not normalise:
        return clip_grad_norm_(parameters, clip or math.inf)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch._foreach_norm(gradients)
    whole = torch.linalg.vector_norm(torch.stack(norms))
    torch._foreach_div_(gradients, torch._foreach_add(norms, 1e-8))
    clip_grad_norm_(parameters, clip or math.inf)
    return whole


def learning_rate(settings: Settings, step: int, per_epoch: int) -> float:
    """The rate of one training step: a function of how far the run is, so that no schedule has to be saved.

    Args:
        settings: schedule, warm-up and length of the run.
        step: training steps that are complete.
        per_epoch: training steps of an epoch.
    """
    epoch = step // per_epoch
    rate = settings.lr
    if settings.schedule == "cosine":
        total = settings.epochs * per_epoch
        done = min(max(step - settings.warmup, 0) / max(total - settings.warmup, 1), 1.0)
        rate *= 0.5 * (1 + math.cos(math.pi * done))
    else:
        for _ in range(_falls(settings, epoch)):  # one by one, for the bits of torch's schedules
            rate *= settings.lr_gamma
    return rate * min((step + 1) / settings.warmup, 1.0) if settings.warmup else rate


def _falls(settings: Settings, epoch: int) -> int:
    if settings.schedule == "step":
        return epoch // settings.lr_step
    if settings.schedule == "multistep":
        return sum(milestone <= epoch for milestone in settings.lr_milestones)
    return epoch if settings.schedule == "exponential" else 0


class Average:
    """An exponential average of a model's floating-point parameters and buffers, often better than the last ones."""

    def __init__(self, model: nn.Module, keep: float) -> None:
        """`keep` is the share of the average that each step leaves; 0 does nothing at all."""
        self._keep, self._steps = keep, 0
        tensors = [*model.parameters(), *model.buffers()] if keep else []
        self._weights = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
        self._mean = [tensor.clone() for tensor in self._weights]

    @torch.no_grad()
    def follow(self) -> None:
        """Take in the model's present weights. Early steps average over fewer, so that the start is forgotten."""
        if self._weights:
            self._steps += 1
            keep = min(self._keep, self._steps / (self._steps + 9))
            torch._foreach_lerp_(self._mean, self._weights, 1 - keep)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The model has the averaged weights inside."""
        before = [tensor.clone() for tensor in self._weights]
        self._put(self._mean)
        try:
            yield
        finally:
            self._put(before)

    def state(self) -> dict[str, int | list[Tensor]]:
        """What a stopped run goes on with."""
        return {"steps": self._steps, "mean": self._mean}

    def load(self, state: dict[str, int | list[Tensor]]) -> None:
        """Take back what `state` gave."""
        steps, mean = state["steps"], state["mean"]
        if not isinstance(steps, int) or not isinstance(mean, list) or len(mean) != len(self._mean):
            raise ValueError("the averaged weights do not fit")
        self._steps = steps
        for tensor, found in zip(self._mean, mean, strict=True):
            tensor.copy_(found)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for tensor, value in zip(self._weights, values, strict=True):
            tensor.copy_(value)
