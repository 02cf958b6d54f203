"""What goes into a backend, and what comes out of it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ncafast.rule import Rule


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


class Call(NamedTuple):
    """Everything that a rollout reads. All tensors are contiguous and on one device; the batch is at least 1.

    Attributes:
        rule: what one step does.
        x: the first state [B, C, *S].
        params: the tensors of `rule.param_shapes()`, in its order; in the dtype of x, or float32 beside half precision.
        extra: extra channels [B or 1, E, *(S or 1)], with a leading axis T where they change per step; or None.
        fire_mask: bool [T, B or 1, 1, *S], which cells update, or None: drawn from the seed.
        seed: [1] int64, a seed of 64 bits in two's complement.
        plan: steps, counters, kept states, precision.
    """

    rule: Rule
    x: Tensor
    params: list[Tensor]
    extra: Tensor | None
    fire_mask: Tensor | None
    seed: Tensor
    plan: Plan


class Outputs(NamedTuple):
    """What a backend's forward returns.

    Attributes:
        out: x_T [B, C, *S], contiguous.
        history: the kept states [kept, B, C, *S], in any strides.
        stats: mean and biased variance of the hidden layers per step, [T, 2, sum H]; [0, 2, sum H] unless the norm is
            "batch".
        tape: uint8, any further data that the backend's backward needs.
    """

    out: Tensor
    history: Tensor
    stats: Tensor
    tape: Tensor


class Gradients(NamedTuple):
    """What a backend's backward returns.

    Attributes:
        x: dL/dx [B, C, *S], contiguous.
        extra: of the extra channels, shaped as they are; None where it is not needed.
        params: one for each parameter, None where it is not needed.
    """

    x: Tensor
    extra: Tensor | None
    params: list[Tensor | None]
