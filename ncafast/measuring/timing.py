"""Timing: everything that is compared takes turns (A B A B ...), so that drift of the machine meets all alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from ncafast.measuring.progress import Say, silent

Call = Callable[[int], object]  # runs once on input number i and returns when it is done


class Spread(NamedTuple):
    """20th, 50th and 80th percentile."""

    p20: float
    p50: float
    p80: float

    def scaled(self, factor: float) -> Spread:
        """All three times `factor`."""
        return Spread(*(factor * value for value in self))

    def under(self, factor: float) -> Spread:
        """`factor` divided by each, in rising order again: times to rates."""
        return Spread(factor / self.p80, factor / self.p50, factor / self.p20)


def spread(values: list[float]) -> Spread:
    """Percentiles with linear interpolation.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values to summarise")
    ordered = sorted(values)
    return Spread(*(_quantile(ordered, q) for q in (0.2, 0.5, 0.8)))


def _quantile(ordered: list[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def interleave(
    calls: Mapping[str, Call],
    rounds: int,
    *,
    warm: int = 1,
    fewer: Mapping[str, int] | None = None,
    say: Say = silent,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every call, `rounds` each, in turns after `warm` rounds that are thrown away.

    Round i runs on input number i, so that no call finds its input in the cache from the call before. A call named in
    `fewer` drops out after so many rounds. `say` is told the number of each round before it.
    """
    last = {name: warm + min(rounds, (fewer or {}).get(name, rounds)) for name in calls}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for number in range(warm + rounds):
            say(f"round {max(1, number + 1 - warm)} of {rounds}")
            for name, call in calls.items():
                if number >= last[name]:
                    continue
                start = clock()
                call(number)
                taken = clock() - start
                if number >= warm:
                    seconds[name].append(taken)
    finally:
        gc.enable()
    return seconds


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
