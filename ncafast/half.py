"""Half-precision states: float16 or bfloat16 in memory, float32 inside a step.

The state, the kept states and the gradient with respect to the state have the half dtype and are rounded once per step,
forward and backward. Everything inside a step is float32: perception, products and their sums, norms, activations,
noise, and the sums over cells and steps that the parameters' gradients are. Parameters and extra channels have the
state's dtype or float32; their gradients have theirs, rounded once at the end. The alive mask of a new state is taken
from the rounded state, which is what the next step sees. Fire masks do not depend on the dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def fits(dtype: torch.dtype, state: torch.dtype) -> bool:
    """Whether parameters and extra channels of a dtype may go with such a state."""
    return dtype == state or (state in HALF and dtype == torch.float32)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype that a step of such states computes in."""
    return torch.float32 if dtype in HALF else dtype


def widened(tensor: Tensor) -> Tensor:
    """The tensor in the dtype that a step computes in."""
    return tensor.to(wide(tensor.dtype))
