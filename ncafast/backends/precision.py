"""How kernels round the operands of their matrix products. Sums are float32 always."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ncafast.compiling import constant_result
from ncafast.half import HALF

PRECISIONS = ("ieee", "tf32", "tf32x3", "bf16")

_forced: str | None = None


@contextmanager
def use_precision(name: str) -> Iterator[None]:
    """Run rollouts inside the `with` block with this precision. NCAFAST_PRECISION does the same from outside.

    On the CPU, "bf16" is by choice only and concerns the MLP: the perception and its moments, the states and the
    gradients of weights are float32. It needs AVX512_BF16; where a rollout cannot have it, the reference runs, with a
    warning. All others are float32 there.

    Args:
        name: "ieee" (float32), "tf32" (10 bits of mantissa), "tf32x3" (three TF32 products, about float32) or "bf16"
            (7 bits). Left alone, on a GPU it is what torch's own convolutions use: tf32 where
            `torch.backends.cudnn.conv.fp32_precision` says so, which is torch's default, else ieee. Models whose
            originals have `torch.nn.Linear` layers follow `torch.backends.cuda.matmul.fp32_precision`. Half-precision
            states have tf32.

    Raises:
        ValueError: no such precision.
    """
    global _forced
    _check(name, "precision")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def precision(x: Tensor | None = None, *, linear: bool = False) -> str:
    """The precision that a rollout started now would have.

    Args:
        x: the state. Where it has half precision, products of torch's own layers have no more bits than TF32's, so that
            this is the default then; autocast makes it float32.
        linear: the rollout stands for `torch.nn.Linear` layers, not for convolutions. The default is then that of
            torch's matrix products, which is ieee unless TF32 was switched on for them.

    Raises:
        ValueError: NCAFAST_PRECISION names no precision.
    """
    wanted = _forced or os.environ.get("NCAFAST_PRECISION")
    if wanted:
        return _check(wanted, "NCAFAST_PRECISION")
    if x is not None and x.dtype in HALF and not torch.is_autocast_enabled(x.device.type):
        return "tf32"
    return _eager(linear)


@constant_result
def _eager(linear: bool) -> str:
    """What torch's own layers do. torch.compile asks while it traces."""
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    eager = matmul.fp32_precision if linear else cudnn.conv.fp32_precision
    return "tf32" if eager == "tf32" else "ieee"


def _check(name: str, what: str) -> str:
    if name not in PRECISIONS:
        raise ValueError(f"{what}={name!r} is not known: choose from {', '.join(PRECISIONS)}")
    return name
