"""trace(): one rollout through the operator: arguments checked, backend chosen, seed drawn, kept states planned."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ncafast import backends, check, footprint, members, ops
from ncafast.backends.precision import precision as default_precision
from ncafast.film import with_film
from ncafast.footprint import kept_states, require_memory
from ncafast.half import widened
from ncafast.rule import Rule

States = Literal["all"] | int | None
Memory = footprint.Memory


class Options(NamedTuple):
    """The options of `ncafast.rollout`, which documents them, as one object below the public functions.

    Attributes:
        precision: of matrix products on a GPU, one of `precision.PRECISIONS`; None is that of torch's convolutions.
    """

    first_step: int = 0
    first_sample: int = 0
    seed: int | Tensor | None = None
    fire_mask: Tensor | None = None  # [T, B or 1, 1, *S]
    extra: Tensor | None = None  # [B or 1, E, *(S or 1)] or [T, ...]
    states: States = None
    memory: Memory = "states"
    backend: str | None = None
    precision: str | None = None
    film: tuple[Tensor, Tensor] | None = None  # [B, H] each


class Trace(NamedTuple):
    """Everything that a rollout returns: the last state, kept states (or None), batch statistics per step."""

    out: Tensor  # [B, C, *S]
    states: Tensor | None  # [n, B, C, *S]
    stats: Tensor  # [T or 0, 2, sum H]; with parameters per sample [B, T or 0, 2, sum H]


Runner = Callable[[Tensor, Rule, Mapping[str, Tensor], int, Options], Trace]
_runner: Runner | None = None  # a plain global, since torch.compile cannot trace a ContextVar


def trace(
    x: Tensor,  # [B, C, *S]
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    options: Options = Options(),  # noqa: B008 (immutable)
) -> Trace:
    """`ncafast.rollout`, and with it the batch statistics, which running statistics are updated from.

    Args:
        x: state, as for `ncafast.rollout`.
        rule: what one step does.
        params: tensors by name.
        steps: number of steps T.
        options: all others.

    Raises:
        TypeError, ValueError, RuntimeError: as `ncafast.rollout`.
    """
    return (_runner or trace_at_once)(x, rule, params, steps, options)


@contextmanager
def run_by(runner: Runner) -> Iterator[None]:
    """Inside, `trace` is what this function does, in all threads of the process.

    Raises:
        RuntimeError: it is what another function does already.
    """
    global _runner
    if _runner is not None:
        raise RuntimeError("spilling() and sharding() can be neither inside each other nor inside themselves")
    _runner = runner
    try:
        yield
    finally:
        _runner = None


def trace_at_once(x: Tensor, rule: Rule, params: Mapping[str, Tensor], steps: int, options: Options) -> Trace:
    """`trace` in one call of the operator."""
    if torch.jit.is_tracing():
        with _quiet_tracing():
            return _trace(x, rule, params, steps, options)
    return _trace(x, rule, params, steps, options)


def _trace(x: Tensor, rule: Rule, params: Mapping[str, Tensor], steps: int, options: Options) -> Trace:
    first_step, first_sample, seed, fire_mask, extra, states, memory, backend, precision, film = options
    checked = check.check_rollout(x, rule, params, steps, first_step, first_sample, fire_mask, extra)
    steps, first_step, first_sample = checked
    states, memory = check.check_states(states), check.check_memory(memory)
    if film is not None:
        params = with_film(rule, params, x, film)
    values = [params[name] for name in rule.param_shapes()]
    if torch.is_autocast_enabled(x.device.type):  # as the operator's own rule does, but before a backend is chosen
        x, *values = (widened(tensor) for tensor in (x, *values))
        extra = None if extra is None else widened(extra)
    rounding = precision or default_precision(x)
    name = backends.choose(rule, x, backend, rounding)
    _refuse_forward_mode(x, values, extra)
    own = check.per_sample(rule, params)
    asked, training = 0 if states is None else 1 if states == "all" else states, _needs_grad(x, values, extra)
    every, kept = kept_states(steps, asked, memory, training)
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        where = "members" if own else name  # which run a few at a time
        require_memory(rule, x, steps, memory, gradients=training, asked=asked, kept=kept, backend=where)
    plan = (steps, first_step, first_sample, every, kept, rounding)
    drawn = drawn_seed(seed, x.device, is_random(rule, fire_mask))
    if own:
        done = members.per_sample(rule, x, values, extra, fire_mask, drawn, name, *plan)
    else:
        done = ops.rollout(x, values, extra, fire_mask, drawn, rule.to_json(), name, *plan)
    out, history, stats, _ = done
    if states is None:
        return Trace(out, None, stats)
    stride = 1 if states == "all" else states
    if stride > steps:
        return Trace(out, history[:0], stats)
    stride //= every
    return Trace(out, history[stride - 1 :: stride], stats)


def seed_tensor(seed: int | Tensor, device: torch.device) -> Tensor:
    """A seed as [1] int64 on a device; one from 2**63 on is stored as its two's complement."""
    if isinstance(seed, Tensor):
        return seed.reshape(1).to(device)
    return torch.tensor([seed - 2**64 if seed >= 2**63 else seed], dtype=torch.int64, device=device)


@contextmanager
def _quiet_tracing() -> Iterator[None]:
    """Without torch.jit.trace's warnings about comparisons: the operator checks the sizes of each call again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        yield


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


def is_random(rule: Rule, fire_mask: Tensor | None) -> bool:
    """Whether a rollout draws random numbers."""
    return (fire_mask is None and rule.fire_rate < 1.0) or rule.noise != "none" or rule.hidden_dropout > 0.0


def drawn_seed(seed: int | Tensor | None, device: torch.device, random: bool) -> Tensor:
    """[1] int64: the given seed, a fresh one, or zeros where nothing is drawn."""
    if seed is not None:
        return seed_tensor(check.check_seed(seed), device)
    if not random:
        return torch.zeros(1, dtype=torch.int64, device=device)
    return torch.randint(-(2**63), 2**63 - 1, (1,), dtype=torch.int64, device=device)
