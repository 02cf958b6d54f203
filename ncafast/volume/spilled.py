"""rollout_spilled(): training on grids whose states do not fit in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ncafast import check
from ncafast.half import widened
from ncafast.rule import Rule
from ncafast.trace import Memory, Options, Trace, drawn_seed, is_random, trace
from ncafast.values import shown
from ncafast.volume.boxes import Box, tiles
from ncafast.volume.training import TrainingPasses
from ncafast.volume.reach import needs_whole_grid, reach, refusal
from ncafast.volume.slots import Spill
from ncafast.volume.through import run

OVERHEAD = 1.25  # most cells computed per cell of the grid by the default steps_per_pass


def rollout_spilled(
    x: Tensor,  # [B, C, *S]
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    *,
    spill: Spill = None,
    tile: int | Sequence[int] | None = None,
    steps_per_pass: int | None = None,
    memory: Memory = "states",
    first_step: int = 0,
    first_sample: int = 0,
    seed: int | Tensor | None = None,
    extra: Tensor | None = None,  # [B or 1, E, *(S or 1)] or [T, ...]
    backend: str | None = None,
) -> Tensor:  # [B, C, *S]
    """`ncafast.rollout` for training beyond memory: states are kept elsewhere, the grid is computed tile by tile.

    It has the masks of `ncafast.rollout` bit for bit, and its numbers and gradients within the rounding of the backend.
    Differentiable in x, every parameter and extra. Steps run in passes of `steps_per_pass`. Only the state at the start
    of each pass is kept; backward computes a pass again, from the last to the first and tile by tile, and adds up the
    gradients. Two runs give equal bits.

    Args:
        x: state [B, C, *S], on any device: tiles are computed on that of the parameters.
        rule: what one step does.
        params: tensors by name, as for `ncafast.rollout`.
        steps: number of steps T.
        spill: where states and their gradients are kept. None: on x's device. "host": in host memory. A folder: in
            files there without a name, that are gone when backward is done or the process ends, however it ends.
        tile: cells of a tile, one int or one per axis; None is the whole grid. Steps of a pass read and compute
            `steps_per_pass` times the rule's reach more cells on each side.
        steps_per_pass: None: sqrt(T), fewer where tiles would compute a quarter more cells than there are. It is 1
            where the rule measures the whole grid at each step (norm "batch", "group" or "instance", pooled channels)
            and there is more than one tile.
        memory: what a tile keeps of the steps of a pass in backward, as for `ncafast.rollout`.
        first_step: as for `ncafast.rollout`.
        first_sample: as for `ncafast.rollout`.
        seed: as for `ncafast.rollout`.
        extra: as for `ncafast.rollout`, on any device.
        backend: as for `ncafast.rollout`.

    Returns:
        x_T [B, C, *S], contiguous, on x's device.

    Raises:
        TypeError, ValueError: a wrong argument, or a rule that tiles cannot run; the message says why.
        OSError: the spill folder cannot be written to or has too little room.
        MemoryError: a tile needs more memory than is free.
        RuntimeError: the backend asked for cannot run this.
    """
    options = Options(first_step, first_sample, seed, None, extra, None, memory, backend)
    return spilled_trace(x, rule, params, steps, options, Cut(spill, tile, steps_per_pass)).out


class Cut(NamedTuple):
    """The arguments of `rollout_spilled` that say how it is computed."""

    spill: Spill = None
    tile: int | Sequence[int] | None = None
    steps_per_pass: int | None = None


def spilled_trace(x: Tensor, rule: Rule, params: Mapping[str, Tensor], steps: int, options: Options, cut: Cut) -> Trace:
    """`rollout_spilled`, and with it the batch statistics."""
    device = _device(params, x)
    steps, first_step, first_sample = _checked(x, rule, params, steps, options, device)
    memory, extra = check.check_memory(options.memory), options.extra
    if steps == 0 or x.shape[0] == 0:
        done = trace(x.to(device), rule, params, steps, options)
        return done._replace(out=done.out.to(x.device))
    whole = tuple(x.shape[2:])
    cores = tiles(whole, _tile(cut.tile, whole))
    _refuse(rule, params, cores)
    per_pass = _per_pass(cut.steps_per_pass, rule, steps, cores)
    seed = drawn_seed(options.seed, device, is_random(rule, None))
    passes = TrainingPasses(
        rule, steps, per_pass, whole, cores, seed, first_step, first_sample, memory, options.backend
    )
    values = [params[name] for name in rule.param_shapes()]
    if torch.is_autocast_enabled(device.type):  # as in an ordinary rollout
        x, *values = (widened(tensor) for tensor in (x, *values))
        extra = None if extra is None else widened(extra)
    with torch.autocast(device.type, enabled=False):
        return Trace(*run(passes, cut.spill, x, values, extra))


def _device(params: Mapping[str, Tensor], x: Tensor) -> torch.device:
    """Where tiles are computed."""
    values = list(params.values()) if isinstance(params, Mapping) else []
    return next((tensor for tensor in (*values, x) if isinstance(tensor, Tensor)), torch.empty(0)).device


def _checked(
    x: Tensor, rule: Rule, params: Mapping[str, Tensor], steps: int, options: Options, device: torch.device
) -> tuple[int, int, int]:
    """As for an ordinary rollout, but for the device of x and extra."""
    check.check_floating("x", x)
    there = [x, options.extra]
    for number, tensor in enumerate(there):
        if isinstance(tensor, Tensor) and tensor.device != device:
            there[number] = torch.empty((), dtype=tensor.dtype, device=device).expand(tensor.shape)
    state, extra = there
    assert state is not None
    return check.check_rollout(state, rule, params, steps, options.first_step, options.first_sample, None, extra)


def _tile(tile: int | Sequence[int] | None, whole: tuple[int, ...]) -> tuple[int, ...]:
    """Cells of a tile per axis, no more than the grid has."""
    if tile is None:
        return whole
    cells = list(tile) if isinstance(tile, Sequence) and not isinstance(tile, str) else [tile] * len(whole)
    if len(cells) != len(whole):
        raise ValueError(f"tile={shown(tile)} must be one int or {len(whole)} ints, one per spatial axis")
    return tuple(min(check.check_count("tile", n, 1), size) for n, size in zip(cells, whole, strict=True))


def _refuse(rule: Rule, params: Mapping[str, Tensor], cores: Sequence[Box]) -> None:
    if len(cores) == 1:
        return
    cut = [axis for axis in range(rule.ndim) if any(core.start[axis] for core in cores)]
    why = refusal(rule, cut)
    if why is None and needs_whole_grid(rule) and check.per_sample(rule, params):
        why = "parameters per sample with numbers that are measured on the whole grid"
    if why is not None:
        raise ValueError(f"this rule cannot run on tiles: {why}; tile=None computes the whole grid at once")


def _per_pass(given: int | None, rule: Rule, steps: int, cores: Sequence[Box]) -> int:
    """Steps of a pass."""
    measured = len(cores) > 1 and needs_whole_grid(rule)
    if given is not None:
        given = check.check_count("steps_per_pass", given, 1)
        if measured and given > 1:
            raise ValueError(
                f"steps_per_pass={given} is not allowed with tiles: each step of this rule measures the whole grid "
                f"(norm={rule.norm!r}, pooled={rule.pooled!r}), so a pass has 1 step"
            )
        return min(given, steps)
    most = 1 if measured else math.isqrt(steps)
    return max((count for count in range(1, most + 1) if _computed(count, rule, cores) <= OVERHEAD), default=1)


def _computed(count: int, rule: Rule, cores: Sequence[Box]) -> float:
    """Cells computed in passes of `count` steps per cell of a tile."""
    far = [max(core.stop[axis] for core in cores) for axis in range(rule.ndim)]
    sizes = zip(cores[0].size, far, reach(rule), strict=True)
    return math.prod(1.0 if cells == size else (cells + 2 * count * r) / cells for cells, size, r in sizes)
