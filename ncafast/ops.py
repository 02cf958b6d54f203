"""The operators ncafast::rollout and ncafast::rollout_backward: schemas, fakes, autograd, autocast, vmap.

One call is a whole rollout. Rule, backend and step count travel as plain arguments, so torch.compile, export and
autocast see one opaque operator. The states that backward needs are an output of forward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ncafast import backends, check, flops
from ncafast.backends.plan import Call, Outputs, Plan
from ncafast.half import fits
from ncafast.rule import Rule

_ARGS = (
    "Tensor[] params, Tensor? extra, Tensor? fire_mask, Tensor seed, str rule, str backend, "
    "SymInt steps, SymInt first_step, SymInt first_sample, SymInt every, SymInt kept, str precision"
)
_library = torch.library.Library("ncafast", "DEF")
_library.define(f"rollout(Tensor x, {_ARGS}) -> (Tensor, Tensor, Tensor, Tensor)")
_library.define(
    "rollout_backward(Tensor? grad_out, Tensor? grad_history, Tensor x, Tensor history, Tensor tape, "
    f"{_ARGS}, bool[] needs) -> (Tensor, Tensor, Tensor[])"
)


def _forward(
    x: Tensor,
    params: list[Tensor],
    extra: Tensor | None,
    fire_mask: Tensor | None,
    seed: Tensor,
    rule: str,
    backend: str,
    *plan: Any,
) -> Outputs:
    _check_dtypes(x, params, extra)
    parsed, todo = Rule.from_json(rule), _plan(*plan)
    _check_sizes(x, parsed, fire_mask, extra, todo.steps)
    x, params, extra, fire_mask = _contiguous(x, params, extra, fire_mask)
    if x.shape[0] == 0:
        return Outputs(*(tensor.zero_() for tensor in backends.get(backend).outputs(parsed, x, todo)))
    return backends.get(backend).forward(Call(parsed, x, params, extra, fire_mask, seed, todo))


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
    *plan_and_needs: Any,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    *plan, needs = plan_and_needs
    parsed, todo = Rule.from_json(rule), _plan(*plan)
    x, params, extra, fire_mask = _contiguous(x, params, extra, fire_mask)
    if x.shape[0] == 0 or (grad_out is None and grad_history is None):
        empty = [torch.zeros_like(p) for p in params]
        return torch.zeros_like(x), _nothing(x) if extra is None else torch.zeros_like(extra), empty
    grad_out = None if grad_out is None else grad_out.contiguous()
    grad_history = None if grad_history is None else grad_history.contiguous()
    call = Call(parsed, x, params, extra, fire_mask, seed, todo)
    run = backends.get(backend).backward
    grad_x, grad_extra, grad_params = run(call, history, tape, grad_out, grad_history, needs)
    filled = [torch.zeros_like(p) if g is None else g for g, p in zip(grad_params, params, strict=True)]
    if grad_extra is None:
        grad_extra = _nothing(x) if extra is None else torch.zeros_like(extra)
    return grad_x, grad_extra, filled


def _nothing(x: Tensor) -> Tensor:
    """What stands for the gradient of extra channels that are not there."""
    return x.new_zeros(0)


def _plan(*fields: Any) -> Plan:
    *numbers, precision = fields
    steps, first_step, first_sample, every, kept = map(int, numbers)
    return Plan(steps, first_step, first_sample, every, kept, precision)


def _contiguous(
    x: Tensor, params: list[Tensor], extra: Tensor | None, fire_mask: Tensor | None
) -> tuple[Tensor, list[Tensor], Tensor | None, Tensor | None]:
    """Backends are promised contiguous memory; the cast of the mask makes it one byte per cell."""
    extra = None if extra is None else extra.contiguous()
    fire_mask = None if fire_mask is None else (fire_mask != 0).contiguous()
    return x.contiguous(), [p.contiguous() for p in params], extra, fire_mask


def _check_sizes(x: Tensor, rule: Rule, fire_mask: Tensor | None, extra: Tensor | None, steps: int) -> None:
    """Once more what a module traced by torch.jit.trace looked at for its example alone."""
    check.check_state(x, rule)
    if fire_mask is not None:
        check.check_fire_mask(x, steps, fire_mask)
    check.check_extra(x, rule, steps, extra)


def _check_dtypes(x: Tensor, params: list[Tensor], extra: Tensor | None) -> None:
    """The last look before memory is read: nothing may reach a kernel in a dtype that does not go with the state's."""
    for tensor in (*params, *(() if extra is None else (extra,))):
        if not fits(tensor.dtype, x.dtype):
            raise TypeError(f"ncafast::rollout got {tensor.dtype} beside a state of {x.dtype}")


def _forward_fake(
    x: Tensor,
    params: list[Tensor],
    extra: Tensor | None,
    fire_mask: Tensor | None,
    seed: Tensor,
    rule: str,
    backend: str,
    *plan: Any,
) -> Outputs:
    return backends.get(backend).outputs(Rule.from_json(rule), x, Plan(*plan))


def _backward_fake(
    grad_out: Tensor | None,
    grad_history: Tensor | None,
    x: Tensor,
    history: Tensor,
    tape: Tensor,
    params: list[Tensor],
    extra: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    grad_extra = x.new_empty(0) if extra is None else extra.new_empty(extra.shape)
    return x.new_empty(x.shape), grad_extra, [p.new_empty(p.shape) for p in params]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    x, params, extra, fire_mask, seed, *ctx.rest = inputs
    _, history, stats, tape = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(stats, tape)
    ctx.has_extra, ctx.has_mask = extra is not None, fire_mask is not None
    optional = [tensor for tensor in (extra, fire_mask) if tensor is not None]
    ctx.save_for_backward(x, history, tape, seed, *optional, *params)


def _autograd(ctx: Any, grad_out: Tensor | None, grad_history: Tensor | None, *_: Any) -> tuple[Any, ...]:
    x, history, tape, seed, *others = ctx.saved_tensors
    extra = others.pop(0) if ctx.has_extra else None
    fire_mask = others.pop(0) if ctx.has_mask else None
    need_x, need_params, need_extra, *_ = ctx.needs_input_grad
    needs = [need_x, need_extra, *need_params]
    grad_x, grad_extra, grad_params = torch.ops.ncafast.rollout_backward(
        grad_out, grad_history, x, history, tape, others, extra, fire_mask, seed, *ctx.rest, needs
    )
    params = [grad if need else None for grad, need in zip(grad_params, need_params, strict=True)]
    nothing = (None,) * (2 + len(ctx.rest))
    return grad_x if need_x else None, params, grad_extra if need_extra else None, *nothing


def _refuse_second_derivative(ctx: Any, *grads: Any) -> None:
    raise NotImplementedError(
        "ncafast::rollout has no second derivative: call backward() without create_graph=True, or compute "
        "the penalty that needs it with plain PyTorch"
    )


def _vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
    """One call per slice: batch statistics and the sample index of the random counter stay those of the slice."""
    return _loop(torch.ops.ncafast.rollout, info.batch_size, in_dims, args)


def _vmap_backward(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
    return _loop(torch.ops.ncafast.rollout_backward, info.batch_size, in_dims, args)


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


_library.impl("rollout", _forward, "CompositeExplicitAutograd")
_library.impl("rollout_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("ncafast::rollout", _forward_fake, lib=_library)
torch.library.register_fake("ncafast::rollout_backward", _backward_fake, lib=_library)
torch.library.register_autograd("ncafast::rollout", _autograd, setup_context=_setup_context, lib=_library)
torch.library.register_autograd("ncafast::rollout_backward", _refuse_second_derivative, lib=_library)
torch.library.register_vmap("ncafast::rollout", _vmap, lib=_library)
torch.library.register_vmap("ncafast::rollout_backward", _vmap_backward, lib=_library)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("ncafast::rollout", _device, torch.float32, lib=_library)
flops.register()

rollout = torch.ops.ncafast.rollout
