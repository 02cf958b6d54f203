"""rollout() and fire_mask(): the functional interface, on any backend."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ncafast import backends, check, ops, philox
from ncafast.backends.precision import precision as default_precision
from ncafast.half import widened
from ncafast.keywords import options_of, refuse_unknown
from ncafast.rule import Rule, number

States = Literal["all"] | int | None
Memory = Literal["states", "sqrt"] | int


class Trace(NamedTuple):
    """All that a rollout leaves: the last state, kept states (or None), batch statistics per step."""

    out: Tensor  # [B, C, *S]
    states: Tensor | None  # [n, B, C, *S]
    stats: Tensor  # [T or 0, 2, sum H]


def rollout(
    x: Tensor,  # [B, C, *S]
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    *,
    first_step: int = 0,
    first_sample: int = 0,
    seed: int | Tensor | None = None,
    fire_mask: Tensor | None = None,  # [T, B or 1, 1, *S]
    extra: Tensor | None = None,  # [B or 1, E, *(S or 1)] or [T, ...]
    states: States = None,
    memory: Memory = "states",
    backend: str | None = None,
    **unknown: NoReturn,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run `steps` steps of `rule` from state `x`, differentiable in x, every parameter and extra.

    Args:
        x: state [B, C, *S], floating point, any memory format. B may be 0. float16 and bfloat16 states are so in
            memory, while a step computes in float32 and rounds once at its end (under torch.autocast they are made
            float32, and so is the result).
        rule: what one step does.
        params: tensors by name, exactly those of `rule.param_shapes()`, on x's device and in its dtype; beside a
            float16 or bfloat16 state they may be float32.
        steps: number of steps T; 0 returns a copy of x.
        first_step: absolute index of the first step. A rollout of 10 steps equals one of 4 followed by one of 6 with
            first_step=4 and the same seed.
        first_sample: absolute index of the first sample, for batches split over processes.
        seed: 64-bit int or int64 tensor of one element. None draws one from torch's generator (of CUDA for a CUDA
            state), so torch.manual_seed governs it.
        fire_mask: which cells update, [T, B or 1, 1, *S], bool or 0/1, in place of drawing.
        extra: the rule's extra channels, [B or 1, E, *(S or 1)], with a leading axis T when they change per step; of
            the dtypes that parameters may have.
        states: "all" or k: also return every (k-th) state, [T // k, B, C, *S]: x_k, x_2k, ... Differentiable.
        memory: what is kept for backward. "states": every state, 4 C bytes per cell and step in float32, 2 C in half
            precision. k: every
            k-th state, the rest computed again. "sqrt": k = sqrt(T), the least memory. Backward itself needs memory
            too: k - 1 states that are computed again, and on the CPU about 5 more (result and gradient among them), or
            2 F + 6 for F filters under batch norm whose taps, F * prod(kernel_size), are 49 or more.
        backend: name of a backend; None takes the fastest that can run this.

    Returns:
        x_T [B, C, *S], contiguous; with `states`, the pair (x_T, states).

    Raises:
        TypeError, ValueError: a wrong argument; the message names it and says what is allowed.
        RuntimeError: the backend asked for cannot run this.
    """
    refuse_unknown("rollout", unknown, OPTIONS)
    done = trace(
        x,
        rule,
        params,
        steps,
        first_step=first_step,
        first_sample=first_sample,
        seed=seed,
        fire_mask=fire_mask,
        extra=extra,
        states=states,
        memory=memory,
        backend=backend,
    )
    return done.out if done.states is None else (done.out, done.states)


OPTIONS = options_of(rollout, 4)


def trace(
    x: Tensor,
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    *,
    first_step: int = 0,
    first_sample: int = 0,
    seed: int | Tensor | None = None,
    fire_mask: Tensor | None = None,
    extra: Tensor | None = None,
    states: States = None,
    memory: Memory = "states",
    backend: str | None = None,
    precision: str | None = None,
) -> Trace:
    """`rollout` with everything it leaves: also the batch statistics, which running statistics are updated from.

    Args:
        precision: of matrix products on a GPU; None is that of torch's convolutions, see `use_precision`.
    """
    where = (states, memory, backend, precision)
    arguments = (x, rule, params, steps, first_step, first_sample, seed, fire_mask, extra, *where)
    if torch.jit.is_tracing():
        with _quiet_tracing():
            return _trace(*arguments)
    return _trace(*arguments)


def _trace(
    x: Tensor,
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    first_step: int,
    first_sample: int,
    seed: int | Tensor | None,
    fire_mask: Tensor | None,
    extra: Tensor | None,
    states: States,
    memory: Memory,
    backend: str | None,
    precision: str | None,
) -> Trace:
    checked = check.check_rollout(x, rule, params, steps, first_step, first_sample, fire_mask, extra)
    steps, first_step, first_sample = checked
    states, memory = check.check_states(states), check.check_memory(memory)
    values = [params[name] for name in rule.param_shapes()]
    if torch.is_autocast_enabled(x.device.type):  # as the operator's own rule does, but before a backend is chosen
        x, *values = (widened(tensor) for tensor in (x, *values))
        extra = None if extra is None else widened(extra)
    rounding = precision or default_precision(x)
    name = backends.choose(rule, x, backend, rounding)
    _refuse_forward_mode(x, values, extra)
    every, kept = _kept(steps, states, memory, _needs_grad(x, values, extra))
    plan = (steps, first_step, first_sample, every, kept, rounding)
    drawn = _seed(seed, x, _is_random(rule, fire_mask))
    out, history, stats, _ = ops.rollout(x, values, extra, fire_mask, drawn, rule.to_json(), name, *plan)
    if states is None:
        return Trace(out, None, stats)
    stride = 1 if states == "all" else states
    if stride > steps:
        return Trace(out, history[:0], stats)
    stride //= every
    return Trace(out, history[stride - 1 :: stride], stats)


def fire_mask(
    shape: Sequence[int],
    fire_rate: float,
    seed: int | Tensor,
    *,
    step: int = 0,
    first_sample: int = 0,
    device: torch.device | str | None = None,
) -> Tensor:
    """The fire mask that a rollout with this seed draws at an absolute step.

    Args:
        shape: of the state, [B, C, *S] (C does not matter).
        fire_rate: probability that a cell updates, 0 to 1.
        seed: 64-bit int or int64 tensor of one element.
        step: absolute step, below 2**32.
        first_sample: absolute index of the first sample.
        device: where the mask is drawn; the bits do not depend on it.

    Returns:
        [B, 1, *S] bool.

    Raises:
        TypeError, ValueError: a wrong argument.
    """
    batch, spatial = check.check_shape(shape)
    rate = number("fire_rate", fire_rate, 0.0, 1.0)
    step, first_sample = check.check_count("step", step), check.check_count("first_sample", first_sample)
    place = check.check_device(device)
    drawn = _seed_tensor(check.check_seed(seed), place)
    return philox.fire_mask(batch, spatial, rate, drawn, step=step, first_sample=first_sample, device=place)


@contextmanager
def _quiet_tracing() -> Iterator[None]:
    """Without torch.jit.trace's warnings about comparisons: the operator checks the sizes of each call again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        yield


def _kept(steps: int, states: States, memory: Memory, training: bool) -> tuple[int, int]:
    """(every, kept): which states the operator returns, for backward, for the caller, or for both."""
    asked = 0 if states is None else 1 if states == "all" else states
    asked = 0 if asked > steps else asked  # no state is ever due
    needed = 0
    if training:
        needed = 1 if memory == "states" else _root(steps) if memory == "sqrt" else memory
        if needed >= steps:  # one segment: backward needs no state beside those that the caller asks for
            needed = asked or max(steps, 1)
    every, rest = asked, needed
    while rest:  # greatest common divisor, spelled out: torch.compile cannot trace math.gcd on symbolic sizes
        every, rest = rest, every % rest
    if every == 0:
        return 0, 0
    # The last state is returned in any case; among the kept ones it is only wanted by the caller.
    return every, steps // every if asked else max(steps - 1, 0) // every


def _root(steps: int) -> int:
    """floor(sqrt(steps)), at least 1; a loop for the same reason."""
    root = 1
    while (root + 1) * (root + 1) <= steps:
        root += 1
    return root


def _needs_grad(x: Tensor, params: list[Tensor], extra: Tensor | None) -> bool:
    tensors = (x, *params) if extra is None else (x, *params, extra)
    # torch.jit.trace compares two traces, of which it runs one without gradients.
    return (torch.is_grad_enabled() or torch.jit.is_tracing()) and any(tensor.requires_grad for tensor in tensors)


def _refuse_forward_mode(x: Tensor, params: list[Tensor], extra: Tensor | None) -> None:
    """torch.func.jvp would silently return a zero tangent for an operator without a forward derivative."""
    if forward_ad._current_level < 0:
        return
    tensors = (x, *params) if extra is None else (x, *params, extra)
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise NotImplementedError("rollout has no forward-mode derivative (jvp); use backward() or torch.autograd.grad")


def _is_random(rule: Rule, fire_mask: Tensor | None) -> bool:
    return (fire_mask is None and rule.fire_rate < 1.0) or rule.noise != "none"


def _seed(seed: int | Tensor | None, x: Tensor, random: bool) -> Tensor:
    """[1] int64: the given seed, a fresh one, or zeros where nothing is drawn."""
    if seed is not None:
        return _seed_tensor(check.check_seed(seed), x.device)
    if not random:
        return torch.zeros(1, dtype=torch.int64, device=x.device)
    return torch.randint(-(2**63), 2**63 - 1, (1,), dtype=torch.int64, device=x.device)


def _seed_tensor(seed: int | Tensor, device: torch.device) -> Tensor:
    """Seeds from 2**63 on are stored as their two's complement."""
    if isinstance(seed, Tensor):
        return seed.reshape(1).to(device)
    return torch.tensor([seed - 2**64 if seed >= 2**63 else seed], dtype=torch.int64, device=device)
