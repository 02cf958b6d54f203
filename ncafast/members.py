"""The operators ncafast::rollout_members and its backward: rollouts with parameters of their own, in one call.

Every tensor has a leading axis of G members, which torch.vmap over ncafast::rollout and parameters with an axis of
samples come to. A member gives what it would give alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ncafast import backends, flops, ops
from ncafast.backends.members import Members
from ncafast.backends.plan import Call, Gradients, Outputs, Plan
from ncafast.rule import Rule

_ARGS = f"{ops.ARGS}, SymInt apart"
ops.library.define(f"rollout_members(Tensor x, {_ARGS}) -> (Tensor, Tensor, Tensor, Tensor)")
ops.library.define(
    "rollout_members_backward(Tensor? grad_out, Tensor? grad_history, Tensor x, Tensor history, Tensor tape, "
    f"{_ARGS}, bool[] needs) -> (Tensor, Tensor, Tensor[])"
)


def per_sample(
    rule: Rule,
    x: Tensor,  # [B, C, *S]
    params: list[Tensor],  # as the rule has them, or with a leading axis B
    extra: Tensor | None,  # [B or 1, E, *(S or 1)] or [T, ...]
    fire_mask: Tensor | None,  # [T, B or 1, 1, *S]
    seed: Tensor,  # [1]
    *rest: Any,
) -> Outputs:
    """A rollout in which every sample is a member, with the random counters of an ordinary one.

    Returns:
        Those of `ncafast::rollout`, but for statistics [B, T, 2, sum H].
    """
    batch = x.shape[0]
    shapes = rule.param_shapes().values()
    own = [p.expand(batch, *shape) for p, shape in zip(params, shapes, strict=True)]
    if extra is not None:
        by_sample = extra.movedim(1, 0) if extra.dim() == x.dim() + 1 else extra
        extra = by_sample.expand(batch, *by_sample.shape[1:]).unsqueeze(by_sample.dim() - x.dim() + 1)
    if fire_mask is not None:
        fire_mask = fire_mask.movedim(1, 0).expand(batch, *fire_mask.shape[:1], *fire_mask.shape[2:]).unsqueeze(2)
    call = (x.unsqueeze(1), own, extra, fire_mask, seed.expand(batch, 1))
    out, history, stats, tape = torch.ops.ncafast.rollout_members(*call, rule.to_json(), *rest, 1)
    return Outputs(out.squeeze(1), history.squeeze(2).movedim(0, 1), stats, tape)


def _forward(
    x: Tensor,
    params: list[Tensor],
    extra: Tensor | None,
    fire_mask: Tensor | None,
    seed: Tensor,
    rule: str,
    backend: str,
    *plan_and_apart: Any,
) -> Outputs:
    ops.check_dtypes(x, params, extra)
    members = _members(x, params, extra, fire_mask, seed, rule, plan_and_apart)
    run = backends.members_of(backend)
    if x.shape[0] * x.shape[1] == 0:
        return Outputs(*(tensor.zero_() for tensor in run.outputs(members.call.rule, x, members.call.plan)))
    first = members.at(0)
    ops.check_sizes(first.x, first.rule, first.fire_mask, first.extra, first.plan)
    ops.check_cells(first.x, first.rule, backend, first.plan.precision)
    return run.forward(members)


def _backward(
    grad_out: Tensor | None,
    grad_history: Tensor | None,
    x: Tensor,
    history: Tensor,
    tape: Tensor,
    params: list[Tensor],
    extra: Tensor | None,
    fire_mask: Tensor | None,
    seed: Tensor,
    rule: str,
    backend: str,
    *plan_apart_and_needs: Any,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    *plan_and_apart, needs = plan_apart_and_needs
    if x.shape[0] * x.shape[1] == 0 or (grad_out is None and grad_history is None):
        return ops.filled(Gradients(x.new_zeros(x.shape), None, [None] * len(params)), x, params, extra)
    members = _members(x, params, extra, fire_mask, seed, rule, plan_and_apart)
    grads = [None if grad is None else _contiguous(grad) for grad in (grad_out, grad_history)]
    found = backends.members_of(backend).backward(members, history, tape, grads[0], grads[1], needs)
    return ops.filled(found, x, params, extra)


def _members(
    x: Tensor,
    params: list[Tensor],
    extra: Tensor | None,
    fire_mask: Tensor | None,
    seed: Tensor,
    rule: str,
    plan_and_apart: Any,
) -> Members:
    *plan, apart = plan_and_apart
    extra = None if extra is None else _contiguous(extra)
    fire_mask = None if fire_mask is None else _contiguous(fire_mask != 0)
    own = [_contiguous(p) for p in params]
    call = Call(Rule.from_json(rule), _contiguous(x), own, extra, fire_mask, seed, ops.read_plan(*plan))
    return Members(call, int(apart))


def _contiguous(tensor: Tensor) -> Tensor:
    """Each member's part contiguous; what all share stays shared."""
    return tensor if tensor.shape[0] and tensor[0].is_contiguous() else tensor.contiguous()


def _forward_fake(
    x: Tensor,
    params: list[Tensor],
    extra: Tensor | None,
    fire_mask: Tensor | None,
    seed: Tensor,
    rule: str,
    backend: str,
    *plan_and_apart: Any,
) -> Outputs:
    return backends.members_of(backend).outputs(Rule.from_json(rule), x, Plan(*plan_and_apart[:-1]))


def _vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
    """Slices are members: batch statistics and the sample index of the random counter stay those of the slice."""
    if info.batch_size == 0:
        return _loop(torch.ops.ncafast.rollout, 0, in_dims, args)
    own = _each_leading(args, in_dims, info.batch_size)
    return tuple(torch.ops.ncafast.rollout_members(*own, 0)), (0, 0, 0, 0)


def _vmap_backward(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
    if info.batch_size == 0:
        return _loop(torch.ops.ncafast.rollout_backward, 0, in_dims, args)
    *own, needs = _each_leading(args, in_dims, info.batch_size)
    grad_x, grad_extra, grads = torch.ops.ncafast.rollout_members_backward(*own, 0, needs)
    if not grad_extra.shape[0]:  # stands for none
        grad_extra = grad_extra.expand(info.batch_size, 0)
    return (grad_x, grad_extra, grads), (0, 0, [0] * len(grads))


def _vmap_members(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
    return _loop(torch.ops.ncafast.rollout_members, info.batch_size, in_dims, args)


def _vmap_members_backward(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
    return _loop(torch.ops.ncafast.rollout_members_backward, info.batch_size, in_dims, args)


def _each_leading(args: tuple[Any, ...], in_dims: tuple[Any, ...], size: int) -> list[Any]:
    return [_leading(value, dim, size) for value, dim in zip(args, in_dims, strict=True)]


def _leading(value: Any, dim: Any, size: int) -> Any:
    """Tensors with the axis of slices in front, of stride 0 where all slices share one."""
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
        dims = dim if isinstance(dim, (list, tuple)) else [dim] * len(value)
        return [_leading(v, d, size) for v, d in zip(value, dims, strict=True)]
    if not isinstance(value, Tensor):
        return value
    return value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)


def _loop(op: Any, size: int, in_dims: tuple[Any, ...], args: tuple[Any, ...]) -> tuple[Any, Any]:
    # Of no slices one of zeros is run all the same, for the shapes of the results and their place in the graph.
    results = [op(*(_slice(a, dim, i) for a, dim in zip(args, in_dims, strict=True))) for i in range(max(size, 1))]
    stacked = tuple(_stack(parts, size) for parts in zip(*results, strict=True))
    return stacked, tuple([0] * len(part) if isinstance(part, list) else 0 for part in stacked)


def _slice(value: Any, dim: Any, index: int) -> Any:
    if isinstance(value, (list, tuple)) and isinstance(dim, (list, tuple)):
        return [_slice(v, d, index) for v, d in zip(value, dim, strict=True)]
    if dim is None:
        return value
    return value.select(dim, index) if value.shape[dim] else value.sum(dim, dtype=value.dtype)


def _stack(parts: tuple[Any, ...], size: int) -> Any:
    if isinstance(parts[0], (list, tuple)):
        return [torch.stack(column)[:size] for column in zip(*parts, strict=True)]
    return torch.stack(parts)[:size]


_op, _back = "ncafast::rollout_members", "ncafast::rollout_members_backward"
_formula = ops.derivative(torch.ops.ncafast.rollout_members_backward)
ops.library.impl("rollout_members", _forward, "CompositeExplicitAutograd")
ops.library.impl("rollout_members_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake(_op, _forward_fake, lib=ops.library)
torch.library.register_fake(_back, ops.backward_fake, lib=ops.library)
torch.library.register_autograd(_op, _formula, setup_context=ops.setup_context, lib=ops.library)
torch.library.register_autograd(_back, ops.refuse_second_derivative, lib=ops.library)
for _name, _rule in (
    ("rollout", _vmap),
    ("rollout_backward", _vmap_backward),
    ("rollout_members", _vmap_members),
    ("rollout_members_backward", _vmap_members_backward),
):
    torch.library.register_vmap(f"ncafast::{_name}", _rule, lib=ops.library)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast(_op, _device, torch.float32, lib=ops.library)
flops.register()
