"""One value of an argument: made an int, a bool or a float, or refused by an error that names argument and limits."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

_LARGEST = 2**31 - 1  # kernels count channels and widths in 32 bits


def as_int(value: Any) -> int | None:
    """The value as an int, also if it is one of numpy or a tensor of one whole number; None for anything else."""
    kind = type(value).__name__
    if kind in ("bool", "bool_") or (kind == "Tensor" and "bool" in str(value.dtype)):  # numpy 1 has bool_, an index
        return None
    try:
        return operator.index(value)
    except (TypeError, RuntimeError):  # the last from tensors without memory
        return None


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """The value as an int, or an error that names the argument and what is allowed."""
    found = as_int(value)
    if found is None:
        raise TypeError(f"{name} must be an int, got {type(value).__name__} {shown(value)}")
    if found < low or found > (_LARGEST if high is None else high):
        allowed = f"{low} to {high}" if high is not None else f">= {low}" if found < low else "below 2**31"
        raise ValueError(f"{name}={shown(found)} is not allowed: it must be {allowed}")
    return found


def odd(name: str, value: Any, high: int) -> int:
    """An odd int from 1 to `high`, or an error that names the argument."""
    value = whole(name, value, 1, high)
    if value % 2 == 0:
        raise ValueError(f"{name}={value} is even; an odd size is needed so that the window has a centre")
    return value


def widths(name: str, value: Any) -> tuple[int, ...]:
    """One int or a sequence of them, each at least 1, as a tuple; or an error that names the argument."""
    sizes = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not sizes:
        raise ValueError(f"{name}=() is not allowed: at least one hidden layer is needed")
    return tuple(whole(name, size, 1) for size in sizes)


def flag(name: str, value: Any) -> bool:
    """True or False (also numpy's) as a bool, or an error that names the argument."""
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__} {shown(value)}")
    return bool(value)


def number(name: str, value: Any, low: float | None = None, high: float | None = None) -> float:
    """The value as a finite float, or an error that names the argument and what is allowed."""
    try:
        found = None if isinstance(value, (bool, str, bytes)) else float(value)
    except OverflowError:
        found = math.inf
    except (TypeError, ValueError, RuntimeError):  # the last two come from tensors of several elements, or complex
        found = None
    if found is None:
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {shown(value)}")
    inside = math.isfinite(found) and (low is None or found >= low) and (high is None or found <= high)
    if not inside:
        allowed = "finite" if low is None else f">= {low:g}" if high is None else f"{low:g} to {high:g}"
        raise ValueError(f"{name}={shown(value) if math.isinf(found) else found} is not allowed: it must be {allowed}")
    return found


def limits(name: str, value: Any) -> tuple[float | None, float | None] | None:
    """(lo, hi) with None for a side that is open, or None, or an error that names the argument."""
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"{name} must be (lo, hi) or None, got {shown(value)}")
    lo, hi = (None if side is None else number(name, side) for side in value)
    if (lo is None and hi is None) or (lo is not None and hi is not None and lo > hi):
        raise ValueError(f"{name}=({lo}, {hi}) must satisfy lo <= hi, and one of them may be None")
    return lo, hi


def shown(value: Any) -> str:
    """A value as an error shows it: on one line, cut where it gets long."""
    if isinstance(value, int) and value.bit_length() > 256:  # Python refuses to spell the longest out
        return f"(an int of {value.bit_length()} bits)"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
