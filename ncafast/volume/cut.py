"""How a rollout that trains is cut into tiles and passes: as asked, or so that it fits into memory."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ncafast import check
from ncafast.footprint import rollout_bytes
from ncafast.free_memory import size_text
from ncafast.rule import Rule
from ncafast.trace import Memory
from ncafast.volume.boxes import Box, grown, tiles
from ncafast.volume.choose import MOST_REDUNDANT, checked_tile, usable_bytes
from ncafast.volume.reach import needs_whole_grid, reach, refusal
from ncafast.volume.slots import Spill

SWEEP = 2**27  # bytes of perceptions that are in memory at once where a norm is measured
_PERCEPTIONS = 6  # held at once there in backward, counted
_STATES = 3  # of a tile and the cells around it, held beside those of its rollout, counted
_LEAST = 8  # cells per axis of the smallest tile that is chosen


class Cut(NamedTuple):
    """The arguments of `rollout_spilled` that say how it is computed."""

    spill: Spill = None
    tile: int | Sequence[int] | None = None
    steps_per_pass: int | None = None
    memory_limit: int | str | None = None


class Pieces(NamedTuple):
    """Tiles that cover the grid, smaller ones for sweeps in plain PyTorch, and steps of a pass."""

    tiles: list[Box]
    sweep: list[Box]
    per_pass: int


class Need(NamedTuple):
    """What the bytes of a rollout with gradients depend on, beside its pieces."""

    x: Tensor  # [B, C, *S]
    rule: Rule
    steps: int
    memory: Memory
    backend: str
    device: torch.device  # that computes
    spill: Spill

    def bytes(self, tiles: Sequence[Box], per_pass: int) -> int:
        """The most that its device holds at once beside the inputs."""
        x, rule, whole = self.x, self.rule, tuple(self.x.shape[2:])
        halo = tuple(per_pass * cells for cells in reach(rule))
        boxes = (grown(core, whole, halo, rule.padding == "circular").size for core in tiles)
        size = max(boxes, key=math.prod)
        shape = (*x.shape[:2], *size)
        box = math.prod(shape) * x.element_size()
        run = rollout_bytes(
            rule, shape, per_pass, memory=self.memory, gradients=True, backend=self.backend, dtype=x.dtype
        )
        masks = x.shape[0] * math.prod(size) * per_pass if rule.fire_rate < 1.0 else 0
        if len(tiles) > 1:
            run += _STATES * box + masks + (2 * SWEEP if needs_whole_grid(rule) else 0)
        if x.device != self.device:
            return run
        if self.spill not in (None, "host"):  # pages of the files: the state and both gradients
            row = min(whole[-1] * x.element_size(), size[-1] * x.element_size() + 2 * mmap.PAGESIZE)
            run += 3 * math.prod(shape[:-1]) * row
        between = -(-self.steps // per_pass) - 1  # states that are kept, and two gradients
        return run + x.nbytes * (3 + (between + min(between, 2) if self.spill in (None, "host") else 0))


def pieces(cut: Cut, need: Need, params: Mapping[str, Tensor]) -> Pieces:
    """What is asked for; where it is not, the largest tiles that fit.

    Raises:
        TypeError, ValueError: a wrong argument, or a rule that cannot run on tiles.
        MemoryError: nothing fits.
    """
    whole, tried = tuple(need.x.shape[2:]), []
    left = math.inf if cut.tile is not None else usable_bytes(cut.memory_limit, need.device)
    for tile in _shrinking(whole) if cut.tile is None else [checked_tile(cut.tile, whole)]:
        cores = tiles(whole, tile)
        reason = _refusal(need.rule, params, cores)
        if reason is not None and cut.tile is not None:
            raise ValueError(f"this rule cannot run in tiles: {reason}")
        if reason is not None:
            return pieces(cut._replace(tile=whole), need, params)  # whose rollout says what it needs
        per_pass = _per_pass(cut.steps_per_pass, need.rule, need.steps, cores)
        tried.append(need.bytes(cores, per_pass))
        if tried[-1] <= left:
            return Pieces(cores, tiles(whole, _sweep(need, tile)), per_pass)
    spill = "spill= to a folder, " if need.spill in (None, "host") else ""
    raise MemoryError(
        f"{need.steps} steps on a state of shape {list(need.x.shape)} with gradients need {size_text(min(tried))} in "
        f"tiles, and {size_text(left)} may be used; what may help: {spill}a smaller batch, a smaller grid"
    )


def _shrinking(tile: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Tiles, each half of the one before."""
    yield tile
    while max(tile) > _LEAST:
        axis = tile.index(max(tile))
        tile = (*tile[:axis], -(-tile[axis] // 2), *tile[axis + 1 :])
        yield tile


def _sweep(need: Need, tile: tuple[int, ...]) -> tuple[int, ...]:
    """A part of a tile whose perceptions fit into `SWEEP` bytes."""
    of_cell = need.x.shape[0] * need.x.element_size() * need.rule.perception_size * _PERCEPTIONS
    return next((part for part in _shrinking(tile) if math.prod(part) * of_cell <= SWEEP), tile)


def _refusal(rule: Rule, params: Mapping[str, Tensor], cores: Sequence[Box]) -> str | None:
    if len(cores) == 1:
        return None
    reason = refusal(rule, [axis for axis in range(rule.ndim) if any(core.start[axis] for core in cores)])
    if reason is None and needs_whole_grid(rule) and check.per_sample(rule, params):
        return "parameters per sample, and numbers that each step measures on the whole grid"
    return reason


def _per_pass(given: int | None, rule: Rule, steps: int, cores: Sequence[Box]) -> int:
    """Steps of a pass."""
    measured = len(cores) > 1 and needs_whole_grid(rule)
    if given is not None:
        given = check.check_count("steps_per_pass", given, 1)
        if measured and given > 1:
            raise ValueError(
                f"steps_per_pass={given}, but each step measures the whole grid (norm={rule.norm!r}, "
                f"pooled={rule.pooled!r}): with tiles it must be 1"
            )
        return min(given, steps)
    most = 1 if measured else math.isqrt(steps)
    return max(
        (count for count in range(1, most + 1) if _computed(count, rule, cores) <= 1 + MOST_REDUNDANT), default=1
    )


def _computed(count: int, rule: Rule, cores: Sequence[Box]) -> float:
    """Cells computed in passes of `count` steps, per cell of the grid."""
    far = [max(core.stop[axis] for core in cores) for axis in range(rule.ndim)]
    sizes = zip(cores[0].size, far, reach(rule), strict=True)
    return math.prod(1.0 if cells == size else (cells + 2 * count * r) / cells for cells, size, r in sizes)
