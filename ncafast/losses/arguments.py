"""What a loss is called with: shapes that fit, in a dtype that sums can be taken in."""

from __future__ import annotations

from torch import Tensor

from ncafast.half import widened
from ncafast.values import shown


def floats(name: str, value: Tensor) -> Tensor:
    """A tensor of floats, half precision as float32, or an error that names the argument."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else f"{type(value).__name__} {shown(value)}"
        raise TypeError(f"{name} must be a tensor of floats, got {kind}")
    return widened(value)


def maps(name: str, value: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Numbers [B, K, *S] and their target in the same dtype, also where that came as bools or ints.

    Raises:
        TypeError: `value` is not of floats.
        ValueError: a target of another shape, or a mask that does not go with it.
    """
    value = floats(name, value)
    if value.dim() < 2:
        raise ValueError(f"{name} of shape {list(value.shape)} has no channels; give [B, K, *S]")
    if target.shape != value.shape:
        raise ValueError(f"target of shape {list(target.shape)} does not fit {name} of shape {list(value.shape)}")
    wanted = (value.shape[0], 1, *value.shape[2:])
    if valid is not None and valid.shape != wanted:
        raise ValueError(f"valid of shape {list(valid.shape)} is not allowed: it must be {list(wanted)}")
    return value, target.to(value.dtype)


def mean_over(values: Tensor, valid: Tensor | None) -> Tensor:
    """The mean of values [B, K, *S] where `valid` [B, 1, *S] is 1; over all of them if it is None."""
    if valid is None:
        return values.mean()
    return (values * valid).sum() / (valid.sum() * values.shape[1])
