"""rollout_spilled(): training on grids whose states do not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ncafast import backends
from ncafast.check import check_floating, check_memory, check_rollout
from ncafast.film import with_film
from ncafast.half import widened
from ncafast.rule import Rule
from ncafast.trace import Memory, Options, Trace, drawn_seed, is_random, run_by, trace_at_once
from ncafast.volume.cut import Cut, Need, pieces
from ncafast.volume.slots import Spill
from ncafast.volume.through import run
from ncafast.volume.training import TrainingPasses

_SAMPLE = 64  # cells per axis of the state that a backend is asked about


def rollout_spilled(
    x: Tensor,  # [B, C, *S]
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    *,
    spill: Spill = None,
    tile: int | Sequence[int] | None = None,
    steps_per_pass: int | None = None,
    memory_limit: int | str | None = None,
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
        tile: cells of a tile at most, one int or one per axis; None: the whole grid where that fits, else the largest
            tiles that fit. A pass reads and computes `steps_per_pass` times the rule's reach more cells on each side.
        steps_per_pass: None: sqrt(T), fewer where tiles would compute a quarter more cells than there are. It is 1
            where the rule measures the whole grid at each step (norm "batch", "group" or "instance", pooled channels)
            and there is more than one tile.
        memory_limit: bytes that the process may hold, or a size such as "6GB", where `tile` is None; None: most of what
            is free.
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
        MemoryError: no tile fits.
        RuntimeError: the backend asked for cannot run this.
    """
    options = Options(first_step, first_sample, seed, None, extra, None, memory, backend)
    return spilled_trace(x, rule, params, steps, options, Cut(spill, tile, steps_per_pass, memory_limit)).out


@contextmanager
def spilling(
    spill: Spill = None,
    *,
    tile: int | Sequence[int] | None = None,
    steps_per_pass: int | None = None,
    memory_limit: int | str | None = None,
) -> Iterator[None]:
    """Inside, every rollout is a `rollout_spilled`: those of `NCA`, of `ncafast.models` and of `ncafast.rollout`.

    It holds for all threads of the process. Backward may be called inside or after it.

    Args:
        spill: as for `rollout_spilled`.
        tile: as for `rollout_spilled`.
        steps_per_pass: as for `rollout_spilled`.
        memory_limit: as for `rollout_spilled`.

    Raises:
        ValueError: by a rollout inside to which `states` is given; else as `rollout_spilled`.
        RuntimeError: inside another such block, or one of `sharding`.
    """
    cut = Cut(spill, tile, steps_per_pass, memory_limit)
    with run_by(lambda x, rule, params, steps, options: spilled_trace(x, rule, params, steps, options, cut)):
        yield


def spilled_trace(x: Tensor, rule: Rule, params: Mapping[str, Tensor], steps: int, options: Options, cut: Cut) -> Trace:
    """`rollout_spilled`, and with it the batch statistics."""
    if options.states is not None:
        raise ValueError("states= is not possible where states are spilled; call it outside of spilling()")
    device = _device(params, x)
    steps, first_step, first_sample = _checked(x, rule, params, steps, options, device)
    options = options._replace(first_step=first_step, first_sample=first_sample, memory=check_memory(options.memory))
    if steps == 0 or x.shape[0] == 0:
        done = trace_at_once(x.to(device), rule, params, steps, options)
        return done._replace(out=done.out.to(x.device))
    if options.film is not None:
        params, options = with_film(rule, params, x, options.film), options._replace(film=None)
    values, extra = [params[name] for name in rule.param_shapes()], options.extra
    if torch.is_autocast_enabled(device.type):  # as in an ordinary rollout
        x, *values = (widened(tensor) for tensor in (x, *values))
        extra = None if extra is None else widened(extra)
    sample = x.new_empty((), device=device).expand(*x.shape[:2], *(min(size, _SAMPLE) for size in x.shape[2:]))
    name = backends.choose(rule, sample, options.backend, options.precision)
    need = Need(x, rule, steps, options.memory, name, device, cut.spill)
    cores, sweep, per_pass = pieces(cut, need, params)
    seed = drawn_seed(options.seed, device, is_random(rule, options.fire_mask))
    options = options._replace(seed=None, extra=None, backend=name)
    passes = TrainingPasses(rule, steps, per_pass, tuple(x.shape[2:]), cores, sweep, seed, options)
    with torch.autocast(device.type, enabled=False):
        return Trace(*run(passes, cut.spill, x, values, extra))


def _device(params: Mapping[str, Tensor], x: Tensor) -> torch.device:
    """Where tiles are computed."""
    values = list(params.values()) if isinstance(params, Mapping) else []
    return next((tensor for tensor in (*values, x) if isinstance(tensor, Tensor)), torch.empty(0)).device


def _checked(
    x: Tensor, rule: Rule, params: Mapping[str, Tensor], steps: int, options: Options, device: torch.device
) -> tuple[int, int, int]:
    """As for an ordinary rollout, but for the device of x and what has its size."""
    check_floating("x", x)

    def there(tensor: Tensor | None) -> Tensor | None:
        if not isinstance(tensor, Tensor) or tensor.device == device:
            return tensor
        return torch.empty((), dtype=tensor.dtype, device=device).expand(tensor.shape)

    state, masks, extra = there(x), there(options.fire_mask), there(options.extra)
    assert state is not None
    return check_rollout(state, rule, params, steps, options.first_step, options.first_sample, masks, extra)
