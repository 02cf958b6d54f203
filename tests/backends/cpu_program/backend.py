"""A backend that runs each call in a program of its own (main.cpp): the CPU's kernels, whatever processor they are for.

Registered under a name of its own, it is compared with the reference by the same functions as every other backend.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ncafast.backends import cpu, extra_channels, native_call
from ncafast.backends.plan import Call, Gradients, Outputs

Number = int | float | bool


class ProgramBackend:
    """The CPU backend's kernels in another process.

    Args:
        command: the program, after the emulator that runs it if there is one.
    """

    DEVICE = UNVERIFIED = None
    can_run = staticmethod(cpu.can_run)
    outputs = staticmethod(cpu.outputs)

    def __init__(self, *command: str) -> None:
        self.command = command

    def unavailable(self) -> None:
        return None

    def forward(self, call: Call) -> Outputs:
        done = Outputs(*map(blank, cpu.outputs(call.rule, call.x, call.plan)))
        results = done._asdict() | {"history": done.history.movedim(2, -1)}  # as it lies in memory
        self.run("forward", numbers(call), arrays(call), results)
        return done

    def backward(
        self,
        call: Call,
        history: Tensor,
        tape: Tensor,
        grad_out: Tensor | None,
        grad_history: Tensor | None,
        needs: list[bool],
    ) -> Gradients:
        rule, x, params, extra, _, _, plan = call
        need_x, need_extra, *need_params = needs
        read = {"history": history.movedim(2, -1), "tape": tape, "grad_out": grad_out, "grad_history": grad_history}
        grad_x = blank(torch.empty_like(x)) if need_x else None
        grads = [blank(torch.empty_like(p)) if need else None for p, need in zip(params, need_params, strict=True)]
        grad_extra = extra_channels.sums(rule, x, extra, plan) if need_extra and extra is not None else None
        places = native_call.gradients(rule, grad_x, grad_extra, grads)
        strides = {"grad.extra.strides": places["extra"][1:]} if "extra" in places else {}
        wanted = {"x": grad_x, "extra": grad_extra, **dict(zip(rule.param_shapes(), grads, strict=True))}
        results = {f"grad.{name}": grad for name, grad in wanted.items() if grad is not None}
        self.run("backward", numbers(call) | strides, arrays(call) | read, results)
        for name, grad in zip(rule.param_shapes(), grads, strict=True):
            if grad is not None and "running" in name:
                grad.zero_()
        folded = None if grad_extra is None or extra is None else extra_channels.folded(grad_extra, extra, x)
        return Gradients(grad_x, folded, grads)

    def run(
        self,
        what: str,
        numbers: Mapping[str, Number | Sequence[Number] | None],
        given: Mapping[str, Tensor | None],
        results: Mapping[str, Tensor],
    ) -> None:
        """One call of the program; `results` are contiguous, and written to."""
        parts = [text(name, value) for name, value in numbers.items()]
        parts += [array("given", name, value) for name, value in given.items() if value is not None]
        parts += [array("result", name, value) for name, value in results.items()]
        environment = os.environ | {"NCAFAST_CPU_ISA": "portable"}
        done = subprocess.run([*self.command, what], input=b"".join(parts), capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr.decode()
        found, at = bytearray(done.stdout), 0
        for value in results.values():
            size = value.numel() * value.element_size()
            if size:
                value.copy_(
                    torch.frombuffer(found, dtype=value.dtype, count=value.numel(), offset=at).view(value.shape)
                )
            at += size
        assert at == len(found)


def blank(tensor: Tensor) -> Tensor:
    """Filled with what shows that nobody wrote it: NaN, or ones."""
    return tensor.fill_(torch.nan if tensor.is_floating_point() else 255)


def numbers(call: Call) -> dict[str, Any]:
    """What native_call and cpu.native_inputs say in numbers, its pointers left out."""
    found = cpu.native_inputs(call)
    named = found["rule"] | {name: found[name] for name in ("batch", "size", "plan", "threads")}
    if "fire_mask" in found:
        named["fire_mask.strides"] = found["fire_mask"][1:]
    if "extra" in found:
        _, *strides, axes = found["extra"]
        named["extra.strides"] = [*strides, *axes]
    return named


def arrays(call: Call) -> dict[str, Tensor | None]:
    """The tensors, by the names that main.cpp asks for."""
    params = zip(call.rule.param_shapes(), call.params, strict=True)
    return {"x": call.x, "seed": call.seed, "fire_mask": call.fire_mask, "extra": call.extra, **dict(params)}


def text(name: str, value: Number | Sequence[Number] | None) -> bytes:
    words = [] if value is None else [value] if isinstance(value, (int, float)) else value
    return " ".join(["numbers", name, str(len(words)), *(repr(float(word)) for word in words)]).encode() + b"\n"


def array(kind: str, name: str, value: Tensor) -> bytes:
    raw = value.contiguous().numpy().tobytes()
    return f"{kind} {name} {len(raw)}\n".encode() + raw
