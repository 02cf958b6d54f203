"""The learning rate as a function of how far a run is, so that a stopped run needs no schedule's memory."""

from __future__ import annotations

import math

from ncafast.train.settings import Settings


def learning_rate(settings: Settings, step: int, per_epoch: int) -> float:
    """The rate of one training step.

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
