"""The Triton backend: the whole rollout in fused GPU kernels, forward and hand-written backward.

Needs no nvcc on the user's machine: PyTorch for CUDA brings Triton, which takes a C compiler to build its launcher.
Kernels and what launches them are in `triton_kernels`. Not yet measured by us on a GPU: they were run in Triton's
interpreter and compiled for sm_80, sm_90 and sm_100. `trust` has them checked on the user's own GPU.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from ncafast.backends import c_compiler, extra_channels, graphs, tuning
from ncafast.backends.fusable import can_fuse, cpu_only, too_large
from ncafast.backends.plan import Call, Gradients, Outputs, Plan
from ncafast.backends.triton_kernels.norm_kinds import KINDS, statistics_bytes
from ncafast.half import HALF
from ncafast.rule import Rule

DEVICE: str | None = "cuda"
UNVERIFIED: str | None = "not yet measured by us; checked on your GPU at first use"
_STATES = (torch.float32, *HALF)
_MAX_CHANNELS = 128
_MAX_HIDDEN = 256
_MAX_DEEP_HIDDEN = 128  # of several hidden layers, whose square weights must fit a tile
_MAX_DENSE = 128
_MAX_PERCEPTION = 2048
_MAX_CELLS = 2**31 - 2**16  # cells are counted in 32 bits, a tile past the last one included


def unavailable() -> str | None:
    """Why this machine cannot run the backend."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; PyTorch for CUDA on Linux brings it"
    if _interpreted():
        return None
    if torch.version.hip is not None:
        return "this PyTorch is for AMD GPUs, the kernels were written for NVIDIA's"
    if not torch.cuda.is_available():
        return "torch finds no GPU"
    if max(map(torch.cuda.get_device_capability, range(torch.cuda.device_count()))) < (8, 0):
        major, minor = torch.cuda.get_device_capability()
        return f"the GPU is sm_{major}{minor}, sm_80 or newer is needed"
    return c_compiler.missing()


def can_run(rule: Rule, x: Tensor, rounding: str | None = None) -> str | None:
    """Why this rule and state cannot run here, or None."""
    device = "cpu" if _interpreted() else "cuda"
    if x.device.type != device:
        return f"the state is on {x.device}, this backend runs on GPUs"
    if x.dtype not in _STATES:
        return f"the state is {x.dtype}, this backend takes torch.float32, torch.float16 and torch.bfloat16"
    reason = can_fuse(rule, norms=tuple(KINDS)) or cpu_only(rule)
    if reason is not None:
        return reason
    if rule.channels > _MAX_CHANNELS:
        return f"{rule.channels} channels are too many, at most {_MAX_CHANNELS} are fused"
    most = _MAX_HIDDEN if len(rule.hidden) == 1 else _MAX_DEEP_HIDDEN
    if max(rule.hidden) > most:
        return f"a hidden layer of {max(rule.hidden)} is too wide, at most {most} are fused with this many layers"
    if rule.perception_size > _MAX_PERCEPTION:
        return f"a perception of {rule.perception_size} is too wide, at most {_MAX_PERCEPTION} are fused"
    if _small_shared(x) and rule.channels > 64 and max(rule.hidden) > 128 // len(rule.hidden):
        return f"{rule.channels} channels and {max(rule.hidden)} hidden need more shared memory than this GPU has"
    if rule.perception == "dense" and rule.dense_channels > _MAX_DENSE:
        return f"dense_channels={rule.dense_channels} are too many, at most {_MAX_DENSE} are fused"
    if too_large(x.shape[0] * math.prod(x.shape[2:]), _MAX_CELLS):
        return "the batch has about 2**31 cells or more"
    return None


def outputs(rule: Rule, x: Tensor, plan: Plan) -> Outputs:
    """Uninitialised tensors of the shapes, dtypes and strides that `forward` returns."""
    batch, channels, *size = x.shape
    history = x.new_empty((plan.kept, batch, *size, channels)).movedim(-1, 2)
    stats = x.new_empty((plan.steps if rule.norm == "batch" else 0, 2, sum(rule.hidden)), dtype=torch.float32)
    # Where no state is kept no backward follows.
    steps = plan.steps if plan.every else 0
    tape = x.new_empty((steps, tape_bytes(rule, batch, batch * math.prod(size))), dtype=torch.uint8)
    return Outputs(x.new_empty(x.shape), history, stats, tape)


def tape_bytes(rule: Rule, batch: int, cells: int) -> int:
    """Bytes of a step's tape: mean and second moment of the perception or of groups, a byte per cell that lives."""
    p = rule.perception_size
    moments = 4 * (p + p * p) if rule.norm == "batch" else statistics_bytes(rule, batch)
    return (moments + cells * (rule.alive is not None) + 15) // 16 * 16


def forward(call: Call) -> Outputs:
    """All steps."""
    from ncafast.backends.triton_kernels import rollout

    rule, x, params, extra, fire_mask, seed, plan = call

    def run(tensors: graphs.Tensors) -> list[Tensor]:
        x, extra, fire_mask, seed, *params = tensors
        done = outputs(rule, x, plan)
        rollout.forward(rollout.Rollout(Call(rule, x, params, extra, fire_mask, seed, plan)), done)
        return list(done)

    with _on(x):
        return Outputs(*_run(rule, x, plan, "forward", [x, extra, fire_mask, seed, *params], run))


def backward(
    call: Call,
    history: Tensor,  # [kept, B, C, *S]
    tape: Tensor,  # [T, bytes]
    grad_out: Tensor | None,  # [B, C, *S]
    grad_history: Tensor | None,  # [kept, B, C, *S]
    needs: list[bool],  # x, extra, *params
) -> Gradients:
    """Gradients of x, of extra and of each parameter (None where `needs` says no)."""
    from ncafast.backends.triton_kernels import rollout, rollout_back

    rule, x, params, extra, fire_mask, seed, plan = call
    _, need_extra, *need_params = needs
    need_extra = need_extra and extra is not None
    wanted = dict(zip(rule.param_shapes(), need_params, strict=True))

    def run(tensors: graphs.Tensors) -> list[Tensor]:
        grad_out, grad_history, x, history, tape, extra, fire_mask, seed, *params = tensors
        grad_extra = extra_channels.sums(rule, x, extra, plan) if need_extra else None
        ready = rollout.Rollout(Call(rule, x, params, extra, fire_mask, seed, plan))
        back = rollout_back.Backward(ready, tape, wanted, grad_extra)
        grad_x = back.run(history, grad_out, grad_history)
        found = back.parameters()
        folded = [] if grad_extra is None or extra is None else [extra_channels.folded(grad_extra, extra, x)]
        needed = [(name, p) for (name, need), p in zip(wanted.items(), params, strict=True) if need]
        return [grad_x, *folded, *(found[name].to(p.dtype) for name, p in needed)]

    inputs = [grad_out, grad_history, x, history, tape, extra, fire_mask, seed, *params]
    with _on(x):
        grad_x, *grads = _run(rule, x, plan, ("backward", *needs), inputs, run)
    grad_extra = grads.pop(0) if need_extra else None
    return Gradients(grad_x, grad_extra, [grads.pop(0) if need else None for need in need_params])


def _run(rule: Rule, x: Tensor, plan: Plan, what: Hashable, inputs: graphs.Tensors, run: graphs.Run) -> list[Tensor]:
    """The call, through a recorded CUDA graph where launching would take longer than running."""
    from ncafast.backends.triton_kernels import chosen

    if tuning.wanted() or not graphs.worth(x, plan.kept):
        return run(inputs)
    tiles = tuple(choice.tiles for choice in chosen.choices(rule, x, plan.precision).values())
    return graphs.shared.call((what, rule, plan, tiles), inputs, run)


def _interpreted() -> bool:
    """Whether Triton's interpreter is to run the kernels, on the CPU and very slowly: only if both are asked for."""
    return os.environ.get("TRITON_INTERPRET") == "1" and os.environ.get("NCAFAST_BACKEND") == "triton"


def _small_shared(x: Tensor) -> bool:
    """Whether a block gets 99 KiB of shared memory, as on sm_86, sm_89 and sm_120, and not 163 or more."""
    if x.device.type != "cuda" or not torch.cuda.is_available():
        return False
    properties: Any = torch.cuda.get_device_properties(x.device)
    return bool(properties.shared_memory_per_block_optin < 160 * 1024)


def _on(x: Tensor) -> torch.cuda.device:
    """Kernels are launched on the current device, which need not be the state's."""
    return torch.cuda.device(x.device if x.device.type == "cuda" else -1)
