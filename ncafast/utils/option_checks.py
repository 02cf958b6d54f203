"""Whether options can be used: every refusal is one line with the option, its value, and what is allowed.

What means the same in every task is bounded here, once. Standard library only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

MOST_SEED = 2**63 - 1
MOST_THREADS = 1024  # torch accepts more, and the interpreter dies when they are started


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that an option, or each of an option's several values, may be."""

    low: float
    high: float = math.inf
    whole: bool = True
    without_low: bool = False
    without_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is one of these; NaN never is."""
        above = self.low < value if self.without_low else self.low <= value
        below = value < self.high if self.without_high or self.high == math.inf else value <= self.high
        return above and below

    def words(self, several: bool) -> str:
        """What to give."""
        number = "whole number" if self.whole else "number"
        start = f"{'above' if self.without_low else 'from'} {self.low}"
        end = "" if self.high == math.inf else f" to {'below ' if self.without_high else ''}{self.high}"
        return f"give {number}s {start}{end}" if several else f"give a {number} {start}{end}"


_NOT_NEGATIVE = Range(0, whole=False)
_ABOVE_ZERO = Range(0, whole=False, without_low=True)
_BELOW_ONE = Range(0, 1, whole=False, without_high=True)
_RANGES = {
    **{name: Range(0, MOST_SEED) for name in ("seed", "seeds")},
    **dict.fromkeys(("epochs", "epoch_length", "batch_size", "accumulate", "lr_step", "patience"), Range(1)),
    **dict.fromkeys(("plateau", "max_steps"), Range(1)),
    **dict.fromkeys(("save_every", "hidden", "runs", "views", "max_pixels"), Range(1)),
    **dict.fromkeys(("warmup", "pictures", "min_steps"), Range(0)),
    "threads": Range(1, MOST_THREADS),
    **dict.fromkeys(("lr_gamma", "clip", "weight_decay", "jitter", "overflow", "tolerance"), _NOT_NEGATIVE),
    **dict.fromkeys(("lr", "fps"), _ABOVE_ZERO),
    **dict.fromkeys(("ema", "betas", "val_fraction", "dropout"), _BELOW_ONE),
    "fire_rate": Range(0, 1, whole=False, without_low=True),  # at 0 no cell would ever update
}


def check_options(options: Any, **ranges: int | Range) -> None:
    """Raise ValueError unless every option is of its kind and in its range.

    Args:
        options: a dataclass instance. An option that is None is left open.
        **ranges: of options that this module does not know, or that have another range here; an int is the least
            whole number.
    """
    check_kinds(options)
    for name, limit in (_RANGES | ranges).items():
        allowed = limit if isinstance(limit, Range) else Range(limit)
        value = getattr(options, name, None)
        if value is None or isinstance(value, (bool, str)):
            continue
        if not all(map(allowed.holds, value if isinstance(value, tuple) else (value,))):
            raise refused(name, value, allowed.words(isinstance(value, tuple)))


def check_kinds(options: Any) -> None:
    """Raise ValueError unless the value of every field of a dataclass instance is of the kind it is annotated as."""
    for name, kind in get_type_hints(type(options)).items():
        value = getattr(options, name)
        if not fits(value, kind):
            raise refused(name, value, words(kind, value))


def refused(name: str, value: Any, allowed: str) -> ValueError:
    """The error for an option's value; `allowed` says what to give."""
    return ValueError(f"{name}={value!r} is not allowed; {allowed}")


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the kind that a field is annotated as."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in parts
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if parts[-1] is Ellipsis:
            return all(fits(item, parts[0]) for item in value)
        return len(value) == len(parts) and all(map(fits, value, parts))
    if kind in (int, float):  # True is an int to Python
        return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    return not isinstance(kind, type) or isinstance(value, kind)


def is_range(name: str, kind: Any) -> bool:
    """Whether an option is the fewest and the most of what each batch draws, where one number may stand for both."""
    return name == "steps" and kind == tuple[int, int]


def words(kind: Any, value: Any) -> str:
    """What to give for an option of this kind."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"choose from {', '.join(map(str, parts))}"
    if origin in (Union, UnionType):
        choices = tuple(choice for part in parts if get_origin(part) is Literal for choice in get_args(part))
        rest = [words(part, value) for part in parts if get_origin(part) is not Literal]
        return " or ".join([*([f"choose from {', '.join(map(str, choices))}"] if choices else []), *rest])
    if origin is tuple:
        what = {int: "whole numbers", float: "numbers"}.get(parts[0], "values")
        return f"give a tuple of {what if parts[-1] is Ellipsis else f'{len(parts)} {what}'}"
    if kind is Path:
        return f"give a Path, such as Path({str(value)!r})"
    known = {int: "give a whole number", float: "give a number", bool: "give True or False", str: "give text"}
    return known.get(kind, "leave it out (None)" if kind is NoneType else f"give a {kind.__name__}")
