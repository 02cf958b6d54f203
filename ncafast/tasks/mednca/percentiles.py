"""Percentiles of numbers that are read part by part, equal to those that numpy finds in all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_BINS = 2**16


def percentiles(parts: Callable[[], Iterable[Array]], percents: Sequence[float]) -> tuple[np.float32, ...] | None:
    """`np.percentile` of float32 numbers, none of them NaN; None where there are none.

    The bits of a float32 number, taken as a whole number, can be made to rise with it. So the first pass counts the
    numbers by their upper 16 bits, and the second one by their lower bits those whose upper bits are wanted.

    Args:
        parts: gives the numbers in parts, twice the same.
        percents: from 0 to 100.
    """
    upper = np.zeros(_BINS, np.int64)
    for part in parts():
        upper += np.bincount(_keys(part) >> 16, minlength=_BINS)
    count = int(upper.sum())
    if not count:
        return None
    places = [(count - 1) * (percent / 100) for percent in percents]
    ranks = [min(int(place) + extra, count - 1) for place in places for extra in (0, 1)]
    ends = np.cumsum(upper)
    bins = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
    lower = {number: np.zeros(_BINS, np.int64) for number in bins}
    for part in parts():
        keys = _keys(part)
        for number, counts in lower.items():
            counts += np.bincount(keys[keys >> 16 == number] & (_BINS - 1), minlength=_BINS)
    found = []
    for rank, number in zip(ranks, bins, strict=True):
        within = rank - int(ends[number] - upper[number])
        found.append(number * _BINS + int(np.searchsorted(np.cumsum(lower[number]), within, side="right")))
    values = _numbers(np.array(found, np.uint32))
    pairs = zip(values[::2], values[1::2], places, strict=True)
    return tuple(np.float32(_between(low, high, place % 1)) for low, high, place in pairs)


def _between(low: np.float32, high: np.float32, share: float) -> float:
    """As numpy interpolates."""
    step = float(high - low)
    return float(low) + step * share if share < 0.5 else float(high) - step * (1 - share)


def _keys(numbers: Array) -> Array:
    """Whole numbers that are in the order of float32 numbers."""
    bits = np.ascontiguousarray(numbers, np.float32).reshape(-1).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(2**31))


def _numbers(keys: Array) -> Array:
    """What `_keys` was made of."""
    return np.where(keys >> 31, keys ^ np.uint32(2**31), ~keys).astype(np.uint32).view(np.float32)
