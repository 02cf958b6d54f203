"""The CPU backend: the whole rollout in C++, forward and hand-written backward, on the cells that fired only.

Here torch ends: tensors become pointers and plain numbers, which csrc/rollout.h describes. States between steps are
channels last, so the history that this backend returns is a view with the channels innermost.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ncafast import native
from ncafast.backends import extra_channels
from ncafast.backends.fusable import MEASURED_NORMS, can_fuse, too_large
from ncafast.backends.native_call import gradients, inputs, three_axes
from ncafast.backends.plan import Call, Gradients, Outputs, Plan
from ncafast.compiling import constant_result
from ncafast.rule import Rule

DEVICE: str | None = "cpu"
UNVERIFIED: str | None = None
_INSTRUCTION_SETS = ("avx512", "avx2", "portable")  # of NCAFAST_CPU_ISA


def unavailable() -> str | None:
    """Why this machine cannot run the backend: the extension is missing, and why."""
    return native.reason()


def can_run(rule: Rule, x: Tensor, rounding: str | None = None) -> str | None:
    """Why this rule and state cannot run here, or None."""
    if x.device.type != "cpu":
        return f"the state is on {x.device}, this backend runs on the CPU"
    if too_large(math.prod([n + 6 for n in x.shape[2:]]), 2**31):
        return "a sample has 2**31 cells or more, its border included"
    if rounding == "bf16" and (refusal := _refuse_bf16()) is not None:
        return f"bfloat16 was asked for, and {refusal}"
    if x.dtype != torch.float32:
        return f"the state is {x.dtype}, this backend takes torch.float32"
    return can_fuse(rule)


def outputs(rule: Rule, x: Tensor, plan: Plan) -> Outputs:
    """Uninitialised tensors of the shapes, dtypes and strides that `forward` returns."""
    return _outputs(rule, x, plan, x.new_empty)


def _outputs(rule: Rule, x: Tensor, plan: Plan, empty: Callable[[Sequence[int]], Tensor]) -> Outputs:
    """`empty` makes the history, which is most of the memory."""
    batch, channels, *size = x.shape
    history = empty((plan.kept, batch, *size, channels)).movedim(-1, 2)
    stats = x.new_empty((plan.steps if rule.norm == "batch" else 0, 2, sum(rule.hidden)))
    # Where no state is kept no backward follows.
    tape = x.new_empty((plan.steps if plan.every else 0, _tape_bytes(rule, batch, size)), dtype=torch.uint8)
    return Outputs(x.new_empty(x.shape), history, stats, tape)


def forward(call: Call) -> Outputs:
    """All steps."""
    done = _outputs(call.rule, call.x, call.plan, native.empty)
    given = native_inputs(call)
    module().forward(given, *(tensor.data_ptr() for tensor in done))
    return done


def backward(
    call: Call,
    history: Tensor,  # [kept, B, C, *S]
    tape: Tensor,  # [T, bytes]
    grad_out: Tensor | None,  # [B, C, *S]
    grad_history: Tensor | None,  # [kept, B, C, *S]
    needs: list[bool],  # x, extra, *params
) -> Gradients:
    """Gradients of x, of extra and of each parameter (None where `needs` says no)."""
    rule, x, params, extra, _, _, plan = call
    need_x, need_extra, *need_params = needs
    grad_x = torch.empty_like(x)
    grads = [torch.empty_like(p) if need else None for p, need in zip(params, need_params, strict=True)]
    grad_extra = extra_channels.sums(rule, x, extra, plan) if need_extra and extra is not None else None
    given = native_inputs(call) | {"gradients": gradients(rule, grad_x if need_x else None, grad_extra, grads)}
    history = history.movedim(2, -1).contiguous()  # copied if something in between has laid it out anew
    where = [0 if grad is None else grad.data_ptr() for grad in (grad_out, grad_history)]
    module().backward(given, history.data_ptr(), tape.data_ptr(), *where)
    for name, grad in zip(rule.param_shapes(), grads, strict=True):
        if grad is not None and "running" in name:
            grad.zero_()
    folded = None if grad_extra is None or extra is None else extra_channels.folded(grad_extra, extra, x)
    return Gradients(grad_x, folded, grads)


def sums_of_part(
    call: Call,  # of whose rule nothing but the perception counts, which has no pooled channels
    core: Sequence[slice],
    shift: Tensor,  # [sets, P] float32; one set, or one per sample
) -> tuple[Tensor, Tensor]:  # [sets, P] and [sets, P, P] float64
    """Sums over the cells of a box: of the perception minus `shift`, and of its product with its transpose."""
    rule = call.rule.replace(norm="none")
    shapes = rule.param_shapes()
    params = [p for name, p in zip(call.rule.param_shapes(), call.params, strict=True) if name in shapes]
    given = native_inputs(call._replace(rule=rule, params=params))
    first = shift.new_empty(shift.shape, dtype=torch.float64)
    second = first.new_empty((*shift.shape, shift.shape[1]))
    box = [three_axes([place.start for place in core]), three_axes([place.stop for place in core])]
    box[0][: 3 - len(core)] = [0] * (3 - len(core))
    module().sums_of_part(given, *box, shift.shape[0], shift.data_ptr(), first.data_ptr(), second.data_ptr())
    return first, second


def native_inputs(call: Call) -> dict[str, Any]:
    """All that the kernels read, with torch's number of threads."""
    return inputs(call) | {"threads": torch.get_num_threads(), "bf16": call.plan.precision == "bf16"}


@constant_result  # torch.compile traces the choice of a backend, which asks for it
def _refuse_bf16() -> str | None:
    refusal: str | None = module().refuse_bf16()
    return refusal


def module() -> Any:
    """The extension, if it has the instruction set that NCAFAST_CPU_ISA asks for."""
    loaded = native.load()
    if loaded is None:
        raise RuntimeError(native.reason())
    wanted, found = os.environ.get("NCAFAST_CPU_ISA"), loaded.instruction_set()
    if wanted and wanted != found:
        allowed = ", ".join(_INSTRUCTION_SETS)
        raise ValueError(
            f"NCAFAST_CPU_ISA={wanted!r} cannot run here: allowed are {allowed} where the processor has them; "
            f"the best that this one has is {found}"
        )
    return loaded


def _tape_bytes(rule: Rule, batch: int, size: list[int]) -> int:
    """Bytes of a step's tape: mean and second moment of the perception per set of samples, a bit per living cell, and
    one per number whose gradient passes a clamp.
    """
    p, cells = rule.perception_size, math.prod(size)
    sets = 0 if rule.norm not in MEASURED_NORMS else 1 if rule.norm == "batch" else batch
    moments = 4 * sets * (p + p * p)
    life = batch * ((cells + 7) // 8) if rule.alive is not None else 0
    rows = batch * math.prod(size[:-1])
    inside = rows * 2 * ((size[-1] * rule.channels + 15) // 16) if rule.clamp is not None else 0
    return moments + (life + 3) // 4 * 4 + (inside + 3) // 4 * 4
