"""The number of the step as extra channels of the perception, so that an automaton can tell early from late."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ncafast.half import wide
from ncafast.values import shown, whole

KINDS = {"linear": 1, "sincos": 2}  # channels


class TimeCode(NamedTuple):
    """Which channels a step has for its number t, counted from 0.

    "linear" is t / max_steps (the temporal encoding of NCALab), which goes on beyond 1. "sincos" is sin and cos of
    pi t / max_steps, which repeat after 2 max_steps.
    """

    kind: str
    max_steps: int

    @property
    def channels(self) -> int:
        """How many they are."""
        return KINDS[self.kind]

    def of(self, x: Tensor, first_step: int, steps: int) -> Tensor:
        """The channels of the steps from `first_step` on for a state x, [T, 1, E, 1, ...]."""
        time = torch.arange(first_step, first_step + steps, dtype=torch.float64, device=x.device) / self.max_steps
        angle = math.pi * time
        code = time[:, None] if self.kind == "linear" else torch.stack((angle.sin(), angle.cos()), 1)
        return code.to(wide(x.dtype)).view(steps, 1, self.channels, *[1] * (x.dim() - 2))

    def after(self, extra: Tensor | None, x: Tensor, first_step: int, steps: int) -> Tensor:
        """Extra channels, equal in all steps or per step, with those of the time behind them."""
        code = self.of(x, first_step, steps)
        if extra is None:
            return code
        given = extra if extra.dim() > x.dim() else extra[None]
        given = given.expand(steps, *given.shape[1:])
        return torch.cat((given, code.to(given).expand(*given.shape[:2], -1, *given.shape[3:])), 2)


def make_time_code(kind: Any, max_steps: Any, default: int) -> TimeCode | None:
    """The code that these arguments mean, or an error that says what is allowed.

    Args:
        kind: None, "linear" or "sincos".
        max_steps: of the longest rollout; None is `default`.
        default: see `max_steps`.
    """
    if kind is None:
        if max_steps is not None:
            raise ValueError("max_steps= goes with time_code= only")
        return None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"time_code={shown(kind)} is not allowed: choose None or one of {', '.join(KINDS)}")
    return TimeCode(kind, whole("max_steps", default if max_steps is None else max_steps, 1))
