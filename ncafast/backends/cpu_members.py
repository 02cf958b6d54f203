"""Members on the CPU backend: one native call, whose threads take whole rollouts."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ncafast.backends import cpu, extra_channels
from ncafast.backends.members import Members
from ncafast.backends.native_call import gradients
from ncafast.backends.plan import Gradients, Outputs, Plan
from ncafast.rule import Rule

Apart = dict[str, Any]  # bytes from one member to the next, by the names of native_call


def outputs(rule: Rule, x: Tensor, plan: Plan) -> Outputs:
    """Uninitialised tensors of the shapes, dtypes and strides that `forward` returns."""
    count, batch, channels, *size = x.shape
    one = cpu.outputs(rule, x.new_empty(x.shape[1:]), plan._replace(kept=0))
    history = x.new_empty((count, plan.kept, batch, *size, channels)).movedim(-1, 3)
    stats, tape = (tensor.new_empty((count, *tensor.shape)) for tensor in (one.stats, one.tape))
    return Outputs(x.new_empty(x.shape), history, stats, tape)


def forward(members: Members) -> Outputs:
    """All steps of all members."""
    call = members.call
    done = outputs(call.rule, call.x, call.plan)
    given, apart = _inputs(members)
    named = done._asdict()
    given |= {name: tensor.data_ptr() for name, tensor in named.items()}
    apart |= {name: _bytes(tensor) for name, tensor in named.items()}
    cpu.module().forward_members(given | {"members": (call.x.shape[0], members.apart, apart)})
    return done


def backward(
    members: Members,
    history: Tensor,  # [G, kept, B, C, *S]
    tape: Tensor,  # [G, T, bytes]
    grad_out: Tensor | None,  # [G, B, C, *S]
    grad_history: Tensor | None,  # [G, kept, B, C, *S]
    needs: list[bool],  # x, extra, *params
) -> Gradients:
    """Gradients of x, of extra and of each parameter (None where `needs` says no)."""
    rule, x, params, extra, _, _, plan = members.call
    need_x, need_extra, *need_params = needs
    count = x.shape[0]
    grad_x = x.new_empty(x.shape) if need_x else None
    grads = [p.new_empty(p.shape) if need else None for p, need in zip(params, need_params, strict=True)]
    sums = None
    if need_extra and extra is not None:
        sums = extra_channels.sums(rule, x[0], extra[0], plan)
        sums = sums.new_zeros((count, *sums.shape))
    first = [None if grad is None else grad[0] for grad in (grad_x, sums, *grads)]
    wanted = gradients(rule, first[0], first[1], first[2:])
    names = ("x", "extra", *rule.param_shapes())
    steps = {name: _bytes(grad) for name, grad in zip(names, (grad_x, sums, *grads), strict=True) if grad is not None}
    given, apart = _inputs(members)
    read = {"history": _dense(history), "tape": tape, "grad_out": grad_out, "grad_history": grad_history}
    given |= {name: 0 if tensor is None else tensor.data_ptr() for name, tensor in read.items()}
    apart |= {name: 0 if tensor is None else _bytes(tensor) for name, tensor in read.items()} | {"gradients": steps}
    given |= {"gradients": wanted, "members": (count, members.apart, apart)}
    cpu.module().backward_members(given)
    for name, grad in zip(rule.param_shapes(), grads, strict=True):
        if grad is not None and "running" in name:
            grad.zero_()
    folded = None if sums is None or extra is None else _folded(sums, extra, x)
    return Gradients(x.new_empty(x.shape) if grad_x is None else grad_x, folded, grads)


def _inputs(members: Members) -> tuple[dict[str, Any], Apart]:
    call = members.call
    given = cpu.native_inputs(members.at(0))
    apart: Apart = {
        "x": _bytes(call.x),
        "seed": _bytes(call.seed),
        "params": {name: _bytes(p) for name, p in zip(call.rule.param_shapes(), call.params, strict=True)},
    }
    if call.fire_mask is not None:
        apart["fire_mask"] = _bytes(call.fire_mask)
    if call.extra is not None:
        apart["extra"] = _bytes(call.extra)
    return given, apart


def _bytes(tensor: Tensor) -> int:
    """From one member to the next."""
    return tensor.stride(0) * tensor.element_size()


def _dense(history: Tensor) -> Tensor:
    """The history in the layout of `outputs`, copied if something in between has laid it out anew."""
    if history[0].movedim(2, -1).is_contiguous():
        return history
    return history.movedim(3, -1).contiguous().movedim(-1, 3)


def _folded(found: Tensor, extra: Tensor, x: Tensor) -> Tensor:
    """The sums [G, T or 1, B, E, *S] over whatever axes extra repeats itself along."""
    per_step = found if extra.dim() == x.dim() + 1 else found[:, 0]
    return per_step.sum_to_size(extra.shape).to(extra.dtype)
