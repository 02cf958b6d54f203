"""Speed and memory of the fine level, ncafast beside plain PyTorch, measured in turns in one process."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ncafast import backends
from ncafast.bench.originals import NCA2D
from ncafast.measuring.memory import kept_bytes
from ncafast.measuring.timing import interleave
from ncafast.models import MedNCA

Run = Callable[[Tensor], Tensor]


def compare(model: MedNCA, batch: int, side: int, rounds: int) -> dict[str, Any]:
    """Time a rollout of the fine level from a state [batch, channels, side, side], without and with backward.

    Ours and the published model in plain PyTorch take turns (A B A B ...) after a warm-up; figures are medians over
    `rounds`. Memory is that of all tensors kept for backward.

    On a busy machine a forward can seem to take longer than forward and backward together. Then all is measured
    again; if that is no better the times of forward alone, which are too long, are left out.

    Returns:
        ms_per_step_forward, ms_per_step (forward and backward), the same with _eager, speedup_forward, speedup_train,
        memory_mib, memory_mib_eager, memory_ratio, backend, speed_shape, speed_steps. What was left out is None.
    """
    level, steps = model.model2, model.steps[1]
    original = NCA2D(level.c, level.h, level.k, level.fire_rate)
    original.load_state_dict(level.state_dict())
    model.train()
    x = torch.rand(batch, model.channels, side, side)
    ours: Run = lambda state: level(state, steps)  # noqa: E731 - a pair, told apart by one line each
    plain: Run = lambda state: original.rollout(state, steps)  # noqa: E731
    forward, train = _times((ours, plain), x, rounds)
    kept = [kept_bytes(partial(run, x.clone().requires_grad_())) for run in (ours, plain)]
    level.zero_grad(set_to_none=True)
    model.eval()
    return {
        "ms_per_step": 1000 * train[0] / steps,
        "ms_per_step_eager": 1000 * train[1] / steps,
        "ms_per_step_forward": 1000 * forward[0] / steps if forward else None,
        "ms_per_step_forward_eager": 1000 * forward[1] / steps if forward else None,
        "speedup_forward": forward[1] / forward[0] if forward else None,
        "speedup_train": train[1] / train[0],
        "memory_mib": kept[0] / 2**20,
        "memory_mib_eager": kept[1] / 2**20,
        "memory_ratio": kept[1] / kept[0],
        "backend": backends.choose(level.rule, x),
        "speed_shape": list(x.shape),
        "speed_steps": steps,
    }


def _times(runs: tuple[Run, Run], x: Tensor, rounds: int) -> tuple[list[float] | None, list[float]]:
    """Median seconds of forward (None if they cannot be) and of forward and backward, of each of the two."""
    for _ in range(2):
        forward = _alternate(_forward, runs, x, rounds)
        train = _alternate(_train, runs, x, rounds)
        if all(part <= whole for part, whole in zip(forward, train, strict=True)):
            return forward, train
    return None, train


def _forward(run: Run, x: Tensor) -> None:
    with torch.no_grad():
        run(x)


def _train(run: Run, x: Tensor) -> None:
    run(x.clone().requires_grad_()).square().mean().backward()


def _alternate(work: Callable[[Run, Tensor], None], runs: tuple[Run, Run], x: Tensor, rounds: int) -> list[float]:
    """Median seconds of each of the two."""
    calls = {str(place): partial(lambda run, _: work(run, x), run) for place, run in enumerate(runs)}
    return [statistics.median(seconds) for seconds in interleave(calls, rounds).values()]
