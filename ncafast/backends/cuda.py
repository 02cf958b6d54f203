"""The CUDA backend: the whole rollout in CUDA C++, forward and hand-written backward, on tensor cores.

Kernels are in csrc/cuda, compiled by the build where it found an nvcc. Not yet measured by us on a GPU: they were
compiled for sm_80 to sm_100 and run on the CPU by the shim in tests/backends/cuda_shim. `trust` has them checked on the
user's own GPU.
"""

from __future__ import annotations

import functools
import math
import os
from typing import Any

import torch
from torch import Tensor

from ncafast import native
from ncafast.backends import extra_channels
from ncafast.backends.fusable import can_fuse, cpu_only, too_large
from ncafast.backends.native_call import STATES, gradients, inputs, rule_numbers, three_axes
from ncafast.backends.plan import Call, Gradients, Outputs, Plan
from ncafast.backends.precision import PRECISIONS, precision
from ncafast.compiling import constant_result
from ncafast.half import wide, widened
from ncafast.rule import Rule

DEVICE: str | None = "cuda"
UNVERIFIED: str | None = "not yet measured by us; checked on your GPU at first use"
LAUNCH_STRATEGIES = ("steps", "cooperative", "cluster")  # in the order of the enum Way in csrc/rollout.h
_NORMS = ("none", "batch", "running")
_MAX_CELLS = 2**31 - 2**16  # of a sample: a kernel counts them in 32 bits, a tile past the last one included
_SHIM_MULTIPROCESSORS = 3  # few, so that a block that goes on with the next tile has some to go on with

_LaunchInfo = tuple[int, int, int, int, int]


def unavailable() -> str | None:
    """Why this machine cannot run the backend: why its current GPU cannot, where no other one can."""
    module = native.load_cuda()
    if module is None:
        return native.cuda_reason()
    if native.CUDA_SHIM:
        return None
    if not torch.cuda.is_available():
        return "torch finds no GPU"
    current = torch.cuda.current_device()
    first: str | None = None
    for index in sorted(range(torch.cuda.device_count()), key=lambda index: index != current):
        with torch.cuda.device(index):
            reason: str | None = module.refuse_device(index)
        if reason is None:
            return None
        first = first or reason
    return first


def can_run(rule: Rule, x: Tensor, rounding: str | None = None) -> str | None:
    """Why this rule and state cannot run here, in this precision or the default one; None where they can."""
    if x.device.type != ("cpu" if native.CUDA_SHIM else "cuda"):
        return f"the state is on {x.device}, this backend runs on GPUs"
    if x.dtype not in STATES:
        return f"the state is {x.dtype}, this backend takes torch.float32, torch.float16 and torch.bfloat16"
    reason = can_fuse(rule, norms=_NORMS) or cpu_only(rule)
    if reason is not None:
        return reason
    if too_large(math.prod(x.shape[2:]), _MAX_CELLS):
        return "a sample has about 2**31 cells or more"
    state, device, rounding = STATES.index(x.dtype), _index(x), rounding or precision(x)
    if torch.compiler.is_dynamo_compiling():
        return _refusal(rule.to_json(), state, device, rounding)
    return _asked(rule, tuple(x.shape[2:]), state, device, rounding)


def outputs(rule: Rule, x: Tensor, plan: Plan) -> Outputs:
    """Uninitialised tensors of the shapes, dtypes and strides that `forward` returns."""
    batch, channels, *size = x.shape
    history = x.new_empty((plan.kept, batch, *size, channels)).movedim(-1, 2)
    stats = x.new_empty((plan.steps if rule.norm == "batch" else 0, 2, sum(rule.hidden)), dtype=wide(x.dtype))
    return Outputs(x.new_empty(x.shape), history, stats, x.new_empty(_tape(rule, x, plan), dtype=torch.uint8))


def forward(call: Call) -> Outputs:
    """All steps, on torch's current stream."""
    x, plan = call.x, call.plan
    done = outputs(call.rule, x, plan)
    wide_call = _widened(call)  # alive until the kernels are launched
    given = inputs(wide_call)
    with _on(x):
        launch = _launch_info(x, plan.precision)
        workspace = _workspace(x, given, launch, backward=False)
        _module().forward(given, launch, *(tensor.data_ptr() for tensor in done), workspace.data_ptr())
    return done


def backward(
    call: Call,
    history: Tensor,  # [kept, B, C, *S]
    tape: Tensor,
    grad_out: Tensor | None,  # [B, C, *S]
    grad_history: Tensor | None,  # [kept, B, C, *S]
    needs: list[bool],  # x, extra, *params
) -> Gradients:
    """Gradients of x, of extra and of each parameter (None where `needs` says no)."""
    rule, x, params, extra, _, _, plan = call
    need_x, need_extra, *need_params = needs
    grad_x = torch.empty_like(x)
    wide_call = _widened(call)  # alive until the kernels are launched
    grads = [
        None if not need else torch.zeros_like(p) if "running" in name else torch.empty_like(p)
        for name, p, need in zip(rule.param_shapes(), wide_call.params, need_params, strict=True)
    ]
    grad_extra = extra_channels.sums(rule, x, extra, plan) if need_extra and extra is not None else None
    given = inputs(wide_call)
    given["gradients"] = gradients(rule, grad_x if need_x else None, grad_extra, grads)
    history = history.movedim(2, -1).contiguous()  # [kept, B, *S, C]: as it was made, unless something laid it out anew
    where = [0 if grad is None else grad.data_ptr() for grad in (grad_out, grad_history)]
    with _on(x):
        launch = _launch_info(x, plan.precision)
        workspace = _workspace(x, given, launch, backward=True)
        _module().backward(given, launch, history.data_ptr(), tape.data_ptr(), *where, workspace.data_ptr())
    folded = None if grad_extra is None or extra is None else extra_channels.folded(grad_extra, extra, x)
    found = [None if grad is None else grad.to(p.dtype) for grad, p in zip(grads, params, strict=True)]
    return Gradients(grad_x, folded, found)


def _widened(call: Call) -> Call:
    """With parameters and extra channels in float32, which kernels read whatever the states are."""
    extra = None if call.extra is None else widened(call.extra)
    return call._replace(params=[widened(p) for p in call.params], extra=extra)


def _module() -> Any:
    module = native.load_cuda()
    if module is None:
        raise RuntimeError(native.cuda_reason())
    return module


@constant_result
def _refusal(rule: str, state: int, device: int, rounding: str) -> str | None:
    """What the kernels say to torch.compile. It may not know the size yet: one stands for all but very thin grids.
    (PyTorch 2.10 and 2.11 take no Rule as a constant, but text.)"""
    known = Rule.from_json(rule)
    return _asked(known, (64,) * known.ndim, state, device, rounding)


@functools.lru_cache(maxsize=256)
def _asked(rule: Rule, size: tuple[int, ...], state: int, device: int, rounding: str) -> str | None:
    """Why no kernel takes this rule with such states in this precision: asked once, since the question costs more than
    a small step."""
    numbers, axes = rule_numbers(rule), three_axes(size)
    with torch.cuda.device(device):  # its shared memory matters
        answer: str | None = _module().refuse(numbers, 1, axes, state, PRECISIONS.index(rounding), max(device, 0))
    return answer


@functools.lru_cache(maxsize=256)
def _tape_bytes(rule: Rule, batch: int, size: tuple[int, ...]) -> int:
    """Bytes of a step's tape."""
    return int(_module().tape_bytes(rule_numbers(rule), batch, three_axes(size)))


def _tape(rule: Rule, x: Tensor, plan: Plan) -> int:
    """Bytes of the whole tape; none where no state is kept, since no backward follows."""
    return plan.steps * _tape_bytes(rule, int(x.shape[0]), tuple(map(int, x.shape[2:]))) if plan.every else 0


def _launch_info(x: Tensor, rounding: str) -> _LaunchInfo:
    """Device, its multiprocessors, precision, stream and launch strategy, as csrc/bind_cuda.cpp reads them."""
    number, strategy = PRECISIONS.index(rounding), _strategy()
    if native.CUDA_SHIM:
        return 0, _SHIM_MULTIPROCESSORS, number, 0, strategy
    properties: Any = torch.cuda.get_device_properties(x.device)
    stream = torch.cuda.current_stream(x.device).cuda_stream
    return x.device.index, properties.multi_processor_count, number, stream, strategy


def _strategy() -> int:
    """The strategy that NCAFAST_CUDA_ROLLOUT requests, used if rule and grid support it; by default the fastest one."""
    wanted = os.environ.get("NCAFAST_CUDA_ROLLOUT")
    if not wanted:
        return len(LAUNCH_STRATEGIES)
    if wanted not in LAUNCH_STRATEGIES:
        raise ValueError(f"NCAFAST_CUDA_ROLLOUT={wanted!r} is not known: choose from {', '.join(LAUNCH_STRATEGIES)}")
    return LAUNCH_STRATEGIES.index(wanted)


def _workspace(x: Tensor, call: dict[str, Any], launch: _LaunchInfo, *, backward: bool) -> Tensor:
    """Scratch memory of the call. The caching allocator reuses it for later work on the same stream only."""
    return torch.empty(_module().workspace_bytes(call, launch, backward), dtype=torch.uint8, device=x.device)


def _index(x: Tensor) -> int:
    """Number of the state's device, -1 where the shim runs."""
    return -1 if x.device.type != "cuda" else x.device.index or 0


def _on(x: Tensor) -> torch.cuda.device:
    """Kernels are launched on the current device, which need not be the state's."""
    return torch.cuda.device(_index(x))
