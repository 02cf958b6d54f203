"""Parity: is a provider right? Its error against float64 may be at most twice that of plain PyTorch in float32.

To that comes a little of the tensor's own size, and for a weight's gradient what rounding does to a sum over so many
cells. Rounding also decides on which side of a ReLU's kink a hidden value near 0 is, and each that is on the other side
changes gradients by about a thousandth: so gradients are compared loosely on large grids, and strictly on small ones.
A time is only worth showing when this holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

STATE, STATE_GRADIENT = "state", "x"
FACTOR = 2.0  # times the error of plain PyTorch in float32
SLACK = 1e-6  # plus this part of the tensor's own size
_LOOSE = 0.01
_EPSILON = 2.0**-24  # rounding of one float32 operation
_NOTHING = 1e-9


class Verdict(NamedTuple):
    """Relative errors of state and gradients (nan where not compared), and what is wrong, or None."""

    state: float
    gradient: float
    wrong: str | None


def judge(
    found: Mapping[str, Tensor],
    plain: Mapping[str, Tensor],
    exact: Mapping[str, Tensor],
    cells: int,
    complete: bool,
    loose: bool = False,
    rounding: tuple[float, float] = (0.0, 0.0),
) -> Verdict:
    """Compare a provider's tensors by name with float64 ones, measured against plain PyTorch's in float32.

    Args:
        found: the state under STATE, its gradient under STATE_GRADIENT, those of weights by name.
        plain: all of them, plain PyTorch in float32.
        exact: all of them, float64.
        cells: how many cells a weight's gradient is summed over.
        complete: whether a missing tensor is wrong; else it is not compared.
        loose: whether gradients may be off by a hundredth.
        rounding: what the provider's own precision adds, of the tensor's size, to the state and to gradients.
    """
    errors: dict[str, float] = {}
    missing = [name for name in exact if name not in found] if complete else []
    wrong = f"{missing[0]}: there is none" if missing else None
    largest = max((_rms(exact[name]) for name in exact if name not in (STATE, STATE_GRADIENT)), default=0.0)
    for name, tensor in found.items():
        size, slack = _rms(exact[name]), SLACK
        if name not in (STATE, STATE_GRADIENT):
            slack += _EPSILON * math.sqrt(cells)
            if size < _NOTHING * largest:
                size = largest  # 0 but for rounding, as of a bias before a batch norm: it has no size of its own
        if name != STATE and loose:
            slack = _LOOSE
        slack += rounding[name != STATE]
        error, allowed = _distance(tensor, exact[name]), FACTOR * _distance(plain[name], exact[name]) + slack * size
        errors[name] = error / size if size else error
        if not error <= allowed and wrong is None:  # also when it is nan
            wrong = f"{name}: error {error:.2g} where {allowed:.2g} is allowed"
    others = [error for name, error in errors.items() if name != STATE]
    return Verdict(errors.get(STATE, math.nan), max(others, default=math.nan), wrong)


def _rms(tensor: Tensor) -> float:
    return float(tensor.double().square().mean().sqrt())


def _distance(tensor: Tensor, exact: Tensor) -> float:
    return _rms(tensor.detach().to("cpu").double() - exact)
