"""How many steps: a number, or a range that each call draws from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ncafast import check
from ncafast.values import shown

Steps = int | tuple[int, int]


def check_steps(name: str, steps: Any) -> Steps:
    """A number of steps, or (min, max) with min <= max, or an error that names the argument."""
    if not isinstance(steps, Sequence) or isinstance(steps, str):
        return check.check_count(name, steps)
    if len(steps) != 2:
        raise ValueError(f"{name}={shown(steps)} is not allowed: give a number of steps, or a range (min, max)")
    low, high = (check.check_count(name, each) for each in steps)
    if low > high:
        raise ValueError(f"{name}=({low}, {high}) is not allowed: min must not be above max")
    return low, high


def most(steps: Steps) -> int:
    """The largest number of steps."""
    return steps[1] if isinstance(steps, tuple) else steps


def jitter(steps: Sequence[int], share: float, random: torch.Generator) -> tuple[int, ...]:
    """Each number, less or more up to a share of it, drawn evenly; at least 1."""
    drawn = []
    for count in steps:
        far = int(share * count)
        drawn.append(max(1, count + int(torch.randint(-far, far + 1, (), generator=random))))
    return tuple(drawn)


def draw_steps(steps: Any, seed: int | Tensor | None) -> int:
    """A number of steps from min to max, both included; a plain number is returned as it is.

    It follows from the seed where one is given, otherwise from torch's generator.
    """
    steps = check_steps("steps", steps)
    if not isinstance(steps, tuple):
        return steps
    low, high = steps
    generator = None if seed is None else torch.Generator().manual_seed(int(seed) % 2**63)
    return int(torch.randint(low, high + 1, (), generator=generator))
