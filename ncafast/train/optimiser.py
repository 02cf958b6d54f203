"""What changes the weights: the optimiser, its learning rate, and what happens to a gradient before it is used."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ncafast.train.settings import Settings


def make_optimiser(parameters: Iterable[Tensor], settings: Settings) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD with momentum, as the options say."""
    lr, betas, decay = settings.lr, settings.betas, settings.weight_decay
    if settings.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=betas[0], weight_decay=decay)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(parameters, lr=lr, betas=betas, weight_decay=decay)


def shape_gradient(parameters: Iterable[Tensor], *, normalise: bool, clip: float) -> Tensor:
    """Normalise, then clip, in place; returns the norm [] of what there was to clip (infinite or NaN if any part is).

    Args:
        parameters: tensors; those without a gradient do not count.
        normalise: divide every tensor's gradient by its norm plus 1e-8 (Mordvintsev et al., "Growing Neural Cellular
            Automata", Distill 2020).
        clip: largest norm over all tensors together; 0 for any.
    """
    parameters = list(parameters)
    if normalise:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norms = torch._foreach_norm(gradients)
        torch._foreach_add_(norms, 1e-8)
        torch._foreach_div_(gradients, norms)
    return clip_grad_norm_(parameters, clip or math.inf)


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
