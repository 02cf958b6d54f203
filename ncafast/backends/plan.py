"""Plan: what a backend must do besides the rule, in plain integers."""

from typing import NamedTuple


class Plan(NamedTuple):
    """How many steps run, where the random counters start, and which states are kept.

    Attributes:
        steps: number of steps T.
        first_step: absolute index of the first step (random counter).
        first_sample: absolute index of the first sample (random counter).
        every: every that-many-th state is kept; 0 keeps none.
        kept: number of states kept: x_every, x_(2 every), ...
    """

    steps: int
    first_step: int
    first_sample: int
    every: int
    kept: int
