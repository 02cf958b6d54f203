"""Triton's interpreter, rounding float32 to the nearest bfloat16 as GPUs do; by itself it cuts the digits off."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter


def round_to_nearest() -> None:
    """Change how the interpreter casts, for the rest of the process."""
    cast = interpreter.InterpreterBuilder.cast_impl

    def rounded(self: Any, src: Any, dst_type: Any) -> Any:
        if (src.dtype.scalar, dst_type.scalar) != (tl.float32, tl.bfloat16):
            return cast(self, src, dst_type)
        bits = torch.from_numpy(np.ascontiguousarray(src.data)).bfloat16().view(torch.int16)
        return interpreter.TensorHandle(bits.numpy().view(np.uint16), dst_type.scalar)

    interpreter.InterpreterBuilder.cast_impl = rounded
