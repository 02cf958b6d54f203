"""What goes into a backend besides rule and tensors, and what comes out of it."""

from typing import NamedTuple

from torch import Tensor


class Plan(NamedTuple):
    """How many steps run, where the random counters start, which states are kept, and how products round.

    Attributes:
        steps: number of steps T.
        first_step: absolute index of the first step (random counter).
        first_sample: absolute index of the first sample (random counter).
        every: every that-many-th state is kept; 0 keeps none.
        kept: number of states kept: x_every, x_(2 every), ...
        precision: of matrix products on a GPU, one of `precision.PRECISIONS`; the same in forward and backward.
    """

    steps: int
    first_step: int
    first_sample: int
    every: int
    kept: int
    precision: str


class Outputs(NamedTuple):
    """What a backend's forward returns.

    Attributes:
        out: x_T [B, C, *S], contiguous.
        history: the kept states [kept, B, C, *S], in the backend's own strides.
        stats: mean and biased variance of the hidden layers per step, [T, 2, sum H]; [0, 2, sum H] unless the norm is
            "batch".
        tape: what else the backend's own backward wants to find again, uint8.
    """

    out: Tensor
    history: Tensor
    stats: Tensor
    tape: Tensor
