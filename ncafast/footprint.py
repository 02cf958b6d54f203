"""Bytes that a rollout needs beside its inputs, and the refusal of one that needs more than is free.

On the CPU the numbers are held within 15 % of measured peaks by tests. On a GPU they are what a rollout needs at least,
so that nothing is refused that would fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from ncafast import backends
from ncafast.backends.fusable import MEASURED_NORMS
from ncafast.backends.plan import Plan
from ncafast.free_memory import Free, free_memory, size_text
from ncafast.half import wide
from ncafast.rule import Rule

Memory = Literal["states", "sqrt"] | int

# Rollouts whose kept states and eight more are smaller pass unseen: it takes 0.1 ms to learn what is free.
SMALL = 128 * 10**6
_OTHERS = 8
# States that the CPU backend holds beside those that it returns, keeps or computes again, see csrc/cpu: what threads
# see of one; backward, the gradient with its border, and of it what bands still need while others change it.
_SEEN, _EDGES = 1 / 16, 1 / 2
_TAPS_KEPT = 49  # filters times taps from which the CPU keeps what filters see, see csrc/cpu/engine.cpp


def kept_states(steps: int, asked: int, memory: Memory, training: bool) -> tuple[int, int]:
    """(every, kept): which states the operator returns, for backward, for the caller, or for both.

    Args:
        steps: T.
        asked: the caller wants every that-many-th state; 0 for none.
        memory: as for `ncafast.rollout`.
        training: whether backward may follow.
    """
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


def rollout_bytes(
    rule: Rule,
    shape: Sequence[int],
    steps: int,
    *,
    memory: Memory = "states",
    gradients: bool = False,
    asked: int = 0,
    backend: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> int:
    """The most bytes that a rollout holds at once beside its inputs; with gradients, in its backward too.

    Args:
        rule: the step.
        shape: of the state, [B, C, *S].
        steps: T.
        memory: as for `ncafast.rollout`.
        gradients: whether x or parameters need gradients.
        asked: every so many steps the state is asked for by `states=`; 0 for none.
        backend: the one that runs it. "cpu" and "reference" are exact; for others, what they return and,
            with gradients, two states.
        dtype: of the state.
    """
    every, kept = kept_states(steps, asked, memory, gradients)
    cells, each = math.prod(shape) // shape[1], torch.finfo(dtype).bits // 8
    state = each * shape[1] * cells
    if backend not in ("cpu", "reference"):
        return (1 + kept + 2 * gradients) * state
    plan = Plan(steps, 0, 0, every, kept, "ieee")
    x = torch.empty(tuple(shape), dtype=dtype, device="meta")
    returned = sum(tensor.nbytes for tensor in backends.get(backend).outputs(rule, x, plan))
    again = max(min(every, steps) - 1, 0) if gradients else 0  # states of a stretch after its first
    if backend == "reference":
        step = torch.finfo(wide(dtype)).bits // 8 * cells * _plain_floats(rule)
        return returned + ((2 + again) * state + int(1.6 * step) if gradients else step)
    reach = [kernel // 2 if rule.has_filters else 0 for kernel in rule.kernel_size]
    padded = state // cells * shape[0] * math.prod(n + 2 * r for n, r in zip(shape[2:], reach, strict=True))
    seen = _seen_floats(rule)
    forward = int(_SEEN * state) + 4 * cells * seen
    backward = (2 + again + bool(asked)) * state + int((1 + _EDGES) * padded)  # dL/dx_T and dL/dx_0
    backward += 4 * cells * (rule.perception_size // 2 if seen else 0)  # dL/dy of cells that fired
    backward += 4 * cells * (seen if rule.num_filters == 1 else 0)  # seen once for both passes
    return returned + (max(forward, backward) if gradients else forward)


def _seen_floats(rule: Rule) -> int:
    """Per cell: what large filters see is kept between the passes of a step with measured moments."""
    dear = rule.num_filters * math.prod(rule.kernel_size) >= _TAPS_KEPT
    kept = rule.norm in MEASURED_NORMS and rule.perception == "depthwise" and dear
    return rule.num_filters * rule.channels if kept else 0


def _plain_floats(rule: Rule) -> int:
    """Per cell, of a step in plain PyTorch without gradients: the perception and its parts, and a layer before and
    after its activation; layer norm keeps one more."""
    copies = 3 if rule.norm == "layer" else 2
    return 2 * rule.perception_size + copies * max(rule.hidden)


def require_memory(
    rule: Rule,
    x: Tensor,  # [B, C, *S]
    steps: int,
    memory: Memory,
    *,
    gradients: bool,
    asked: int,
    kept: int,
    backend: str,
) -> None:
    """Raise MemoryError, one line, for a rollout that needs more than is free. Small ones and fake tensors pass.

    Args:
        rule: the step.
        x: its first state.
        steps: T.
        memory: as for `ncafast.rollout`.
        gradients: whether backward may follow.
        asked: as for `rollout_bytes`.
        kept: number of states that are kept.
        backend: the one that runs it.
    """
    if x.nbytes * (kept + _OTHERS) < SMALL or type(x) not in (Tensor, torch.nn.Parameter) or x.device.type == "meta":
        return
    free = free_memory(x.device)
    if free is None:
        return

    def needs(size: Sequence[int], memory: Memory) -> int:
        options = {"gradients": gradients, "asked": asked, "backend": backend}
        copied = 0 if x.is_contiguous() else x.nbytes // x.shape[0] * size[0]
        return copied + rollout_bytes(rule, size, steps, memory=memory, dtype=x.dtype, **options)  # type: ignore[arg-type]

    needed = needs(x.shape, memory)
    if needed <= free.bytes:
        return
    fits = _fitting(x.shape, gradients, free, needs)
    raise MemoryError(
        f"a rollout of {steps} steps on a state of shape {list(x.shape)} needs {size_text(needed)}, and "
        f"{size_text(free.bytes)} is {free.by}; what fits: {', '.join(fits)}"
    )


def _fitting(shape: Sequence[int], gradients: bool, free: Free, needs: object) -> Iterator[str]:
    """What would fit instead."""
    assert callable(needs)
    if gradients and (least := needs(shape, "sqrt")) <= free.bytes:
        yield f'memory="sqrt" ({size_text(least)})'
    least = needs((1, *shape[1:]), "sqrt" if gradients else "states")
    if shape[0] > 1 and least <= free.bytes:
        batch = free.bytes // least
        yield f"batches of {batch}, or {-(-shape[0] // batch)} ranks with a part of the batch each (first_sample=)"
    yield f"tiles (ncafast.volume.rollout_{'spilled' if gradients else 'tiled'})"
    yield "ranks with a part of the grid each (ncafast.volume.rollout_sharded)"
