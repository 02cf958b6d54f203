"""Extra channels as kernels take them: strides for reading, a sum per cell for gradients."""

from __future__ import annotations

from torch import Tensor

from ncafast.backends.plan import Plan
from ncafast.half import wide
from ncafast.rule import Rule


def strides(rule: Rule, x: Tensor, extra: Tensor) -> tuple[int, int, int, list[int]]:
    """Elements per step, sample, channel and axis (three of them); 0 where extra repeats itself."""
    full = extra if extra.dim() == x.dim() + 1 else extra[None]
    step, sample, _, *axes = [s if n > 1 else 0 for n, s in zip(full.shape, full.stride(), strict=True)]
    return step, sample, full.stride(2), [0] * (3 - rule.ndim) + axes


def sums(rule: Rule, x: Tensor, extra: Tensor, plan: Plan) -> Tensor:
    """[T or 1, B, E, *S] zeros for the gradient: one element per cell, so that no two threads add to the same one."""
    steps = plan.steps if extra.dim() == x.dim() + 1 else 1
    return x.new_zeros((steps, x.shape[0], rule.extra, *x.shape[2:]), dtype=wide(x.dtype))


def folded(found: Tensor, extra: Tensor, x: Tensor) -> Tensor:
    """The sums over whatever axes extra repeats itself along."""
    per_step = found if extra.dim() == x.dim() + 1 else found[0]
    return per_step.sum_to_size(extra.shape).to(extra.dtype)
