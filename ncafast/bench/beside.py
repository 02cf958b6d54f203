"""Speed and memory of one automaton beside plain PyTorch, in a few numbers: what the demo shows of a benchmark."""

from __future__ import annotations

from typing import Any

import torch

from ncafast import backends, models
from ncafast.bench.case import Case, Size
from ncafast.bench.ceilings import Ceilings
from ncafast.bench.measure import Measurement
from ncafast.bench.modes import FORWARD, TRAIN
from ncafast.bench.originals import NCA2D
from ncafast.bench.providers import Eager, Fused


def compare(level: models.NCA2D, steps: int, batch: int, side: int, rounds: int) -> dict[str, Any]:
    """Time rollouts of a new automaton with these widths on the CPU, without and with backward.

    Returns:
        ms_per_step_forward, ms_per_step (forward and backward), the same with _eager, speedup_forward, speedup_train,
        memory_mib, memory_mib_eager, memory_ratio, backend, speed_shape, speed_steps. Forward alone is None where the
        machine was too busy to time it.

    Raises:
        RuntimeError: training cannot be measured here; the message says why.
    """
    device, widths = torch.device("cpu"), (level.c, level.h, level.k, level.fire_rate)
    size, shape = Size(batch, (side, side), steps), [batch, level.c, side, side]
    backend = backends.choose(level.rule, torch.empty(shape))
    case = Case("beside", "", lambda: NCA2D(*widths), lambda: models.NCA2D(*widths), "fc2.weight", {})
    names = (Fused(backend).name, Eager.name)
    found = Measurement(case, size, [Fused(backend), Eager()], device, Ceilings(device)).run([TRAIN, FORWARD], rounds)
    outcomes = {(outcome.provider, outcome.mode): outcome for outcome in found}

    def measured(mode: str, metric: str) -> list[Any]:
        values = [outcomes[name, mode].values.get(metric, (None,))[0] for name in names]
        return [getattr(value, "p50", value) for value in values]

    train, forward, kept = measured(TRAIN, "time"), measured(FORWARD, "time"), measured(TRAIN, "kept")
    if None in (*train, *kept):
        reasons = (outcome.absent or outcome.wrong for outcome in found if outcome.mode == TRAIN)
        raise RuntimeError(f"the speed cannot be measured: {next(filter(None, reasons), 'no time was found')}")
    mib = [bytes_ * size.cells * size.steps / 2**20 for bytes_ in kept]
    forward = forward if None not in forward else [None, None]
    return {
        "ms_per_step": train[0],
        "ms_per_step_eager": train[1],
        "ms_per_step_forward": forward[0],
        "ms_per_step_forward_eager": forward[1],
        "speedup_forward": forward[1] / forward[0] if forward[0] else None,
        "speedup_train": train[1] / train[0],
        "memory_mib": mib[0],
        "memory_mib_eager": mib[1],
        "memory_ratio": mib[1] / mib[0],
        "backend": backend,
        "speed_shape": shape,
        "speed_steps": size.steps,
    }
