"""The operators ncafast::rollout and ncafast::rollout_backward: schemas, fakes, autograd, autocast.

One call is a whole rollout. Rule, backend and step count travel as plain arguments, so torch.compile, export and
autocast see one opaque operator. The states that backward needs are an output of forward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ncafast import backends, check
from ncafast.backends.plan import Call, Gradients, Outputs, Plan
from ncafast.half import fits
from ncafast.rule import Rule

ARGS = (
    "Tensor[] params, Tensor? extra, Tensor? fire_mask, Tensor seed, str rule, str backend, "
    "SymInt steps, SymInt first_step, SymInt first_sample, SymInt every, SymInt kept, str precision"
)
_MANY = 2**28  # elements of a state from which on there may be more cells than a backend counts
library = torch.library.Library("ncafast", "DEF")
library.define(f"rollout(Tensor x, {ARGS}) -> (Tensor, Tensor, Tensor, Tensor)")
library.define(
    "rollout_backward(Tensor? grad_out, Tensor? grad_history, Tensor x, Tensor history, Tensor tape, "
    f"{ARGS}, bool[] needs) -> (Tensor, Tensor, Tensor[])"
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
    check_dtypes(x, params, extra)
    parsed, todo = Rule.from_json(rule), read_plan(*plan)
    check_sizes(x, parsed, fire_mask, extra, todo)
    x, params, extra, fire_mask = _contiguous(x, params, extra, fire_mask)
    if x.shape[0] == 0:
        return Outputs(*(tensor.zero_() for tensor in backends.get(backend).outputs(parsed, x, todo)))
    check_cells(x, parsed, backend, todo.precision)
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
    parsed, todo = Rule.from_json(rule), read_plan(*plan)
    x, params, extra, fire_mask = _contiguous(x, params, extra, fire_mask)
    if x.shape[0] == 0 or (grad_out is None and grad_history is None):
        return filled(Gradients(x.new_zeros(x.shape), None, [None] * len(params)), x, params, extra)
    grad_out = None if grad_out is None else grad_out.contiguous()
    grad_history = None if grad_history is None else grad_history.contiguous()
    call = Call(parsed, x, params, extra, fire_mask, seed, todo)
    found = backends.get(backend).backward(call, history, tape, grad_out, grad_history, needs)
    return filled(found, x, params, extra)


def filled(
    found: Gradients, x: Tensor, params: list[Tensor], extra: Tensor | None
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """What a backward operator returns: zeros for a missing gradient, an empty tensor without extra channels."""

    def at(grad: Tensor | None, like: Tensor) -> Tensor:
        return like.new_zeros(like.shape) if grad is None else grad

    grad_x, grad_extra, grads = found  # a plain tuple from somebody else's backend is as good
    grad_extra = x.new_zeros(0) if extra is None else at(grad_extra, extra)
    return grad_x, grad_extra, [at(g, p) for g, p in zip(grads, params, strict=True)]


def read_plan(*fields: Any) -> Plan:
    """The plan from the arguments of an operator."""
    *numbers, precision = fields
    steps, first_step, first_sample, every, kept = map(int, numbers)
    return Plan(steps, first_step, first_sample, every, kept, precision)


def _contiguous(
    x: Tensor, params: list[Tensor], extra: Tensor | None, fire_mask: Tensor | None
) -> tuple[Tensor, list[Tensor], Tensor | None, Tensor | None]:
    """Backends are promised contiguous memory; a mask has one byte per cell."""
    extra = None if extra is None else extra.contiguous()
    if fire_mask is not None:
        fire_mask = (fire_mask if fire_mask.dtype == torch.bool else fire_mask != 0).contiguous()
    return x.contiguous(), [p.contiguous() for p in params], extra, fire_mask


def check_sizes(x: Tensor, rule: Rule, fire_mask: Tensor | None, extra: Tensor | None, plan: Plan) -> None:
    """Once more what a module that was traced or exported looked at for its example alone."""
    steps = plan.steps
    check.check_limits(x.shape, steps, plan.first_step, plan.first_sample)
    check.check_state(x, rule)
    if fire_mask is not None:
        check.check_fire_mask(x, steps, fire_mask)
    check.check_extra(x, rule, steps, extra)


def check_cells(x: Tensor, rule: Rule, backend: str, precision: str) -> None:
    """Ask the backend again: a compiled or exported program does not bound its sizes by what the backend can count."""
    if x.numel() < _MANY:
        return
    reason = backends.get(backend).can_run(rule, x, precision)
    if reason is not None:
        raise RuntimeError(f"{backend!r} cannot run this: {reason}")


def check_dtypes(x: Tensor, params: list[Tensor], extra: Tensor | None) -> None:
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


def backward_fake(
    grad_out: Tensor | None,
    grad_history: Tensor | None,
    x: Tensor,
    history: Tensor,
    tape: Tensor,
    params: list[Tensor],
    extra: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Shapes of the gradients."""
    grad_extra = x.new_empty(0) if extra is None else extra.new_empty(extra.shape)
    return x.new_empty(x.shape), grad_extra, [p.new_empty(p.shape) for p in params]


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    """Keep for backward what a rollout read, and its kept states and tape."""
    x, params, extra, fire_mask, seed, *ctx.rest = inputs
    _, history, stats, tape = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(stats, tape)
    ctx.has_extra, ctx.has_mask = extra is not None, fire_mask is not None
    optional = [tensor for tensor in (extra, fire_mask) if tensor is not None]
    ctx.save_for_backward(x, history, tape, seed, *optional, *params)


def derivative(op: Any) -> Any:
    """The autograd formula that calls `op`, a backward operator, with what `setup_context` kept."""

    def backward(ctx: Any, grad_out: Tensor | None, grad_history: Tensor | None, *_: Any) -> tuple[Any, ...]:
        x, history, tape, seed, *others = ctx.saved_tensors
        extra = others.pop(0) if ctx.has_extra else None
        fire_mask = others.pop(0) if ctx.has_mask else None
        need_x, need_params, need_extra, *_ = ctx.needs_input_grad
        needs = [need_x, need_extra, *need_params]
        grad_x, grad_extra, grad_params = op(
            grad_out, grad_history, x, history, tape, others, extra, fire_mask, seed, *ctx.rest, needs
        )
        params = [grad if need else None for grad, need in zip(grad_params, need_params, strict=True)]
        rest = (None,) * (2 + len(ctx.rest))
        return grad_x if need_x else None, params, grad_extra if need_extra else None, *rest

    return backward


def refuse_second_derivative(ctx: Any, *grads: Any) -> None:
    """The derivative of a backward operator."""
    raise NotImplementedError(
        "ncafast::rollout has no second derivative: call backward() without create_graph=True, or compute "
        "the penalty that needs it with plain PyTorch"
    )


library.impl("rollout", _forward, "CompositeExplicitAutograd")
library.impl("rollout_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("ncafast::rollout", _forward_fake, lib=library)
torch.library.register_fake("ncafast::rollout_backward", backward_fake, lib=library)
torch.library.register_autograd(
    "ncafast::rollout", derivative(torch.ops.ncafast.rollout_backward), setup_context=setup_context, lib=library
)
torch.library.register_autograd("ncafast::rollout_backward", refuse_second_derivative, lib=library)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("ncafast::rollout", _device, torch.float32, lib=library)

rollout = torch.ops.ncafast.rollout
