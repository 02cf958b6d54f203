"""The autograd function of a rollout in passes: forward keeps the state before each, backward runs each again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ncafast.half import wide
from ncafast.volume.gradients import Gradients
from ncafast.volume.slots import Slots, Spill
from ncafast.volume.training import TrainingPasses


def run(
    passes: TrainingPasses,
    spill: Spill,
    x: Tensor,  # [B, C, *S]
    values: Sequence[Tensor],  # the parameters in the rule's order
    extra: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The fields of a `Trace`, differentiable in x, the parameters and extra."""
    training = torch.is_grad_enabled() and any(t.requires_grad for t in (x, extra, *values) if t is not None)
    out, stats = _Through.apply(passes, spill, training, x, extra, *values)
    return out, None, stats


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, passes: TrainingPasses, spill: Spill, training: bool, x: Tensor, extra: Tensor | None, *values: Tensor
    ) -> tuple[Tensor, Tensor]:
        params = dict(zip(passes.rule.param_shapes(), values, strict=True))
        last = len(passes.starts) - 1
        kept = Slots(last if training else min(last, 2), x.shape, x.dtype, x.device, spill)
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        measured = passes.measured(params, x.shape[0])
        found, stats, before = [], [], x
        for number, start in enumerate(passes.starts):
            after = out if number == last else kept.tensor[number % len(kept.tensor)]
            one, stat = passes.forward(start, before, params, extra, after, measured, kept.release)
            found.append(one)
            stats.append(stat)
            before = after
        ctx.passes, ctx.spill, ctx.found, ctx.release = passes, spill, found, kept.release
        ctx.save_for_backward(x, extra, kept.tensor, *values)
        ctx.set_materialize_grads(False)
        together = torch.cat(stats)
        ctx.mark_non_differentiable(together)
        return out, together

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Any, ...]:
        x, extra, kept, *values = ctx.saved_tensors
        passes, (need_x, need_extra, *needs) = ctx.passes, ctx.needs_input_grad[3:]
        if grad is None:
            return (None,) * (5 + len(values))
        params = dict(zip(passes.rule.param_shapes(), values, strict=True))
        wanted = [name for name, need in zip(params, needs, strict=True) if need]
        sums = {name: torch.zeros_like(params[name], dtype=torch.float64) for name in wanted}
        total = Gradients(None, _zeros(extra) if need_extra else None, sums)
        buffers = Slots(min(len(kept), 2), x.shape, wide(x.dtype), x.device, ctx.spill)

        def release() -> None:
            ctx.release()
            buffers.release()

        for number, start in reversed(list(enumerate(passes.starts))):
            before = kept[number - 1] if number else x
            total = total._replace(x=_target(number, need_x, x, buffers))
            passes.backward(start, before, params, extra, ctx.found[number], grad, total, release)
            grad = total.x
        grads = (sums[name].to(p.dtype) if name in sums else None for name, p in params.items())
        grad_extra = None if total.extra is None else total.extra.to(extra.dtype)
        return None, None, None, None if grad is None else grad.to(x.dtype), grad_extra, *grads


def _target(number: int, need_x: bool, x: Tensor, buffers: Slots) -> Tensor | None:
    """Zeros to which a pass adds the gradient of the state before it; that of x stays in x's memory."""
    if not number:
        return _zeros(x) if need_x else None
    target = buffers.tensor[number % len(buffers.tensor)]
    for rows in target.flatten(0, 2).split(max(1, _CHUNK // target[0, 0, 0].nbytes)):
        rows.zero_()
        buffers.release()
    return target


_CHUNK = 2**24  # bytes of a file that are in memory at once where it is filled


def _zeros(like: Tensor) -> Tensor:
    return torch.zeros(like.shape, dtype=wide(like.dtype), device=like.device)
