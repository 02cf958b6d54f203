"""The choice of a plan: from memory, redundant work and the time that arithmetic and traffic take."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from ncafast.free_memory import free_memory, held_memory, limited, parse_size, size_text
from ncafast.values import shown, whole
from ncafast.volume.plan import PassPlan, Volume, sizes_text
from ncafast.volume.reach import needs_whole_grid, refusal

MOST_REDUNDANT = 0.25  # of the cells that are computed, against those that are wanted
_OF_LIMIT, _OF_FREE = 0.9, 0.8  # what may be used: the allocator and threads of others need some too
_MARGIN = 1.03  # of a limit that is recommended: what the process holds is not the same at the next call
_UNKNOWN = 2**32  # bytes, where the system does not say what is free


def choose(
    volume: Volume, tile: int | Sequence[int] | None, steps_per_pass: int | None, memory_limit: int | str | None
) -> PassPlan:
    """The plan that takes least time of those that fit, with at most `MOST_REDUNDANT` redundant work where that fits.

    Args:
        volume: what is run.
        tile: cells per axis, if they are given.
        steps_per_pass: steps before a tile's result is stored, at most, if that is given.
        memory_limit: bytes that the process may hold, or a size such as "6GB"; None: most of what is free.

    Raises:
        TypeError, ValueError: a wrong argument, or a rule that cannot run in parts.
        MemoryError: nothing fits.
    """
    budget, host = usable_bytes(memory_limit, volume.device), usable_bytes(None, torch.device("cpu"))
    sizes = None if tile is None else checked_tile(tile, volume.whole)
    most = volume.steps if steps_per_pass is None else whole("steps_per_pass", steps_per_pass, 1)

    def fits(plan: PassPlan) -> bool:
        return plan.device_bytes <= budget and plan.host_bytes <= host

    entire = PassPlan(volume, volume.whole, _counts(volume, most))
    if sizes is None and fits(entire):
        return entire
    if sizes is None or sizes != volume.whole:
        _check_parts(volume, sizes, steps_per_pass)
    found = [plan for plan in _plans(volume, sizes, steps_per_pass, fits) if fits(plan)]
    if not found and any(cells > 1 for cells in volume.grain):  # parts of chunks are written, which takes longer
        return choose(replace(volume, grain=()), tile, steps_per_pass, memory_limit)
    if not found:
        every = _plans(volume, sizes, steps_per_pass or 1, lambda plan: False)
        smallest = min(every, key=lambda plan: plan.device_bytes)
        need, alone = smallest.device_bytes, ""
        whole_states = f", of which {size_text(smallest.kept)} are whole states" if smallest.kept > budget else ""
        if sizes is None and entire.device_bytes < need:  # of a small volume, which needs none of what tiles share
            need = entire.device_bytes
            alone = f", all cells as one tile {size_text(need)}"
        raise MemoryError(
            f"tiles of {sizes_text(smallest.tile)} cells need {size_text(smallest.device_bytes)}{whole_states}{alone}, "
            f"and {size_text(budget)} may be used; raise memory_limit{_enough(need, memory_limit, volume.device)}"
            + (", give an out on disk such as a memory map" if whole_states else "")
            + (", or use smaller tiles" if sizes else "")
        )
    lean = [plan for plan in found if plan.redundant <= MOST_REDUNDANT]
    return min(lean, key=lambda plan: plan.seconds) if lean else min(found, key=lambda plan: plan.redundant)


def _plans(
    volume: Volume, tile: tuple[int, ...] | None, steps_per_pass: int | None, fits: Callable[[PassPlan], bool]
) -> Iterator[PassPlan]:
    """Candidates: cut along leading axes first, so that cells that are read together lie together."""
    single = needs_whole_grid(volume.rule) and tile != volume.whole
    wanted = [steps_per_pass] if steps_per_pass else [1] if single else _passes(volume.steps) or [0]
    for steps in wanted:
        counts = _counts(volume, steps)
        if tile is not None:
            yield PassPlan(volume, tile, counts)
            continue
        for inner in _inner_pieces(volume.whole[1:]):
            low, high = 1, volume.whole[0]  # the fewest pieces along the first axis that fit
            while low < high:
                middle = (low + high) // 2
                plan = PassPlan(volume, _tile(volume, (middle, *inner)), counts)
                low, high = (low, middle) if fits(plan) else (middle + 1, high)
            yield PassPlan(volume, _tile(volume, (low, *inner)), counts)


def _inner_pieces(sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    powers = [[2**k for k in range(size.bit_length()) if 2**k <= max(1, size // 8)] for size in sizes]
    return (found for found in itertools.product(*powers) if list(found) == sorted(found, reverse=True))


def _tile(volume: Volume, pieces: tuple[int, ...]) -> tuple[int, ...]:
    grain = volume.grain or (1,) * len(volume.whole)
    lengths = (-(-size // count) for size, count in zip(volume.whole, pieces, strict=True))
    return tuple(min(size, -(-n // g) * g) for n, g, size in zip(lengths, grain, volume.whole, strict=True))


def _passes(steps: int) -> list[int]:
    """Steps per pass that differ in the number of passes."""
    return sorted({-(-steps // count) for count in range(1, steps + 1)}, reverse=True)


def _counts(volume: Volume, most: int) -> tuple[int, ...]:
    """Steps of each pass, as equal as can be."""
    passes = -(-volume.steps // most) if most else 0
    counts = tuple(volume.steps // passes + (i < volume.steps % passes) for i in range(passes))
    if volume.in_place:
        return (*counts, 0) if passes == 1 else counts
    return counts or (0,)


def checked_tile(tile: int | Sequence[int], size: tuple[int, ...]) -> tuple[int, ...]:
    """Cells of a tile per axis, no more than a grid of that size has."""
    given = tuple(tile) if isinstance(tile, Sequence) and not isinstance(tile, str) else (tile,) * len(size)
    if len(given) != len(size):
        raise ValueError(f"tile={shown(tile)} must be one int or {len(size)} ints, one per spatial axis")
    return tuple(min(whole("tile", n, 1), cells) for n, cells in zip(given, size, strict=True))


def _check_parts(volume: Volume, tile: tuple[int, ...] | None, steps_per_pass: int | None) -> None:
    axes = range(len(volume.whole))
    cut = tuple(axes) if tile is None else tuple(axis for axis in axes if tile[axis] < volume.whole[axis])
    reason = refusal(volume.rule, cut)
    if reason is not None:
        raise ValueError(f"this rule cannot run in tiles: {reason}")
    if needs_whole_grid(volume.rule) and (steps_per_pass or 1) > 1:
        raise ValueError(
            f"steps_per_pass={steps_per_pass}, but each step measures the whole volume "
            f"(norm={volume.rule.norm!r}, pooled={volume.rule.pooled!r}): it must be 1"
        )


def _enough(need: int, memory_limit: int | str | None, device: torch.device) -> str:
    """The limit that would do, where one is given, beside what the process holds of it."""
    held = None if memory_limit is None else held_memory(device)
    if held is None:
        return ""
    limit = math.ceil((held + need / _OF_LIMIT) * _MARGIN / 10**6)
    return f" to {limit}MB, since the process holds {size_text(held)} already"


def usable_bytes(memory_limit: int | str | None, device: torch.device) -> int:
    """Bytes that a rollout may use under a limit on the process, or of what is free."""
    limit = parse_size(memory_limit) if isinstance(memory_limit, str) else memory_limit
    if limit is not None:
        limit = whole("memory_limit", limit, 1, 2**62)
    with limited(limit):
        free = free_memory(device)
    if free is None:
        return limit or _UNKNOWN
    return int(free.bytes * (_OF_FREE if limit is None else _OF_LIMIT))
