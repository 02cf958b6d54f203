"""The sums of `moments.sums` by the CPU's kernels. Backward computes the perception again, so that none is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ncafast.backends import cpu
from ncafast.backends.plan import Call, Plan
from ncafast.perception import perception
from ncafast.rule import Rule
from ncafast.volume.boxes import Place
from ncafast.volume.perception_backward import perception_backward

_ONE_STEP = Plan(1, 0, 0, 0, 0, "ieee")


def native_sums(
    x: Tensor,  # [B, C, *S]
    core: Place,
    rule: Rule,
    params: Mapping[str, Tensor],
    extra: Tensor | None,
    shift: Tensor,  # [sets, P]
) -> tuple[Tensor, Tensor] | None:
    """The sums in float64, differentiable in x, the filters and extra; None where the kernels cannot."""
    tensors = [x, *params.values(), *([] if extra is None else [extra])]
    if cpu.unavailable() or cpu.can_run(rule, x) or any(tensor.dtype != torch.float32 for tensor in tensors):
        return None
    return _Sums.apply(core, rule, list(params), shift, x, extra, *params.values())  # type: ignore[no-any-return]


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        core: Place,
        rule: Rule,
        names: Sequence[str],
        shift: Tensor,
        x: Tensor,
        extra: Tensor | None,
        *values: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.core, ctx.rule, ctx.names = core, rule, names
        ctx.save_for_backward(shift, x, extra, *values)
        box = [place for place in core if isinstance(place, slice)]
        more = None if extra is None else extra.contiguous()
        seed = x.new_zeros(1, dtype=torch.int64)
        call = Call(rule, x.contiguous(), [p.contiguous() for p in values], more, None, seed, _ONE_STEP)
        first, second = cpu.sums_of_part(call, box, shift.float().contiguous())
        return first, second

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, first: Tensor, second: Tensor) -> tuple[Any, ...]:
        shift, x, extra, *values = ctx.saved_tensors
        params = dict(zip(ctx.names, values, strict=True))
        with torch.no_grad():
            seen = perception(x, ctx.rule, params, extra=extra)
        grad = torch.zeros_like(seen)
        moved = seen[ctx.core].flatten(2) - shift.to(seen.dtype)[..., None]
        both = (second + second.transpose(1, 2)).to(seen.dtype)
        inner = both @ moved + first.to(seen.dtype)[..., None]
        grad[ctx.core] = inner.view_as(grad[ctx.core])
        grad_x, grad_extra, filters = perception_backward(x, ctx.rule, params, extra, grad)
        return None, None, None, None, grad_x, grad_extra, *(filters.get(name) for name in ctx.names)
