"""rollout() and fire_mask(): the functional interface, on any backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch
from torch import Tensor

from ncafast import check, philox
from ncafast.keywords import options_of, refuse_unknown
from ncafast.rule import Rule
from ncafast.trace import Memory, Options, States, seed_tensor, trace
from ncafast.values import number


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
    film: tuple[Tensor, Tensor] | None = None,  # [B, H] each
    **unknown: NoReturn,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run `steps` steps of `rule` from state `x`, differentiable in x, every parameter, extra and film.

    Args:
        x: state [B, C, *S], floating point, any memory format. B may be 0. float16 and bfloat16 states are so in
            memory, while a step computes in float32 and rounds once at its end (under torch.autocast they are made
            float32, and so is the result).
        rule: what one step does.
        params: tensors by name, exactly those of `rule.param_shapes()`, on x's device and in its dtype; beside a
            float16 or bfloat16 state they may be float32. Each may have an axis B in front: then sample b runs with
            parameters [b] as if it were alone, its batch statistics included, and with its part of the batch's fire
            masks. The gradient has the axis too.
        steps: number of steps T; 0 returns a copy of x.
        first_step: absolute index of the first step. A rollout of 10 steps equals one of 4 followed by one of 6 with
            first_step=4 and the same seed.
        first_sample: absolute index of the first sample, for batches split over processes.
        seed: 64-bit int or int64 tensor of one element. None draws one from torch's generator (of CUDA for a CUDA
            state), so torch.manual_seed governs it.
        fire_mask: which cells update, [T, B or 1, 1, *S], bool or 0/1, instead of random ones.
        extra: the rule's extra channels, [B or 1, E, *(S or 1)], with a leading axis T when they change per step; of
            the dtypes that parameters may have.
        states: "all" or k: also return every (k-th) state, [T // k, B, C, *S]: x_k, x_2k, ...; none where k is above
            the number of steps. Differentiable.
        memory: what is kept for backward. "states": every state, 4 C bytes per cell and step in float32, 2 C in half
            precision. k: every
            k-th state, the rest computed again. "sqrt": k = sqrt(T), the least memory. Backward itself needs memory
            too: k - 1 states that are computed again, and on the CPU about 4 more (result and gradient among them), and
            another (F + 1) * fire_rate (one more if F = 1) under batch, group or instance norm for F filters with
            F * prod(kernel_size) of 49 or more. Inference on the CPU needs 1.1 states, its result among them, and F
            more in that case.
        backend: name of a backend; None takes the fastest that can run this.
        film: (scale, shift), each [B, H] with the hidden layers side by side: hidden units of sample b become
            scale[b] * norm(z) + shift[b] before their activation. Differentiable. Not with norm "batch".

    Returns:
        x_T [B, C, *S], contiguous; with `states`, the pair (x_T, states).

    Raises:
        TypeError, ValueError: a wrong argument; the message names it and says what is allowed.
        RuntimeError: the backend asked for cannot run this.
        MemoryError: it needs more bytes than are free; the message says how many, and what would fit.
    """
    refuse_unknown("rollout", unknown, OPTIONS)
    options = Options(first_step, first_sample, seed, fire_mask, extra, states, memory, backend, film=film)
    done = trace(x, rule, params, steps, options)
    return done.out if done.states is None else (done.out, done.states)


OPTIONS = options_of(rollout, 4)


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
    device = check.check_device(device)
    drawn = seed_tensor(check.check_seed(seed), device)
    return philox.fire_mask(batch, spatial, rate, drawn, step=step, first_sample=first_sample, device=device)
