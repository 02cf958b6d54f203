"""The one gate: every argument of a rollout is checked here, before any pointer is taken.

Messages name the argument, its value and what is allowed. TypeError for a wrong kind, ValueError for a wrong value.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from ncafast.rule import Rule

_COUNTER = 2**32  # step and sample are 32-bit words of the random counter
_ELEMENTS = 2**63  # offsets are signed 64-bit


def check_rollout(
    x: Tensor,  # [B, C, *S]
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    first_step: int,
    first_sample: int,
    fire_mask: Tensor | None,
    extra: Tensor | None,
) -> None:
    """Raise unless these arguments describe a rollout that every backend may run."""
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be an ncafast.Rule, got {type(rule).__name__}")
    check_state(x, rule)
    check_count("steps", steps)
    check_count("first_step", first_step)
    check_count("first_sample", first_sample)
    if prod(x.shape) * (steps + 1) >= _ELEMENTS:
        raise ValueError(
            f"x of shape {_shape(x)} over steps={steps} has more than 2**63 elements; run fewer steps at a time"
        )
    if first_step + steps > _COUNTER:
        raise ValueError(f"first_step + steps = {first_step + steps} must not exceed 2**32")
    if first_sample + x.shape[0] > _COUNTER:
        raise ValueError(f"first_sample + batch = {first_sample + x.shape[0]} must not exceed 2**32")
    check_params(x, rule, params)
    if fire_mask is not None:
        check_fire_mask(x, steps, fire_mask)
    check_extra(x, rule, steps, extra)


def check_state(x: Tensor, rule: Rule) -> None:
    """The state's kind, rank, channels, size and padding."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"x must be floating point, got {x.dtype}; convert it with x.float()")
    rank = rule.ndim + 2
    if x.dim() != rank:
        axes = ", ".join("DHW"[-rule.ndim :])
        raise ValueError(f"x has shape {_shape(x)}, but a {rule.ndim}-D rule needs {rank} axes [B, C, {axes}]")
    if x.shape[1] != rule.channels:
        last = x.shape[-1] == rule.channels
        hint = "; the channels are axis 1, x.movedim(-1, 1) brings them there" if last else ""
        raise ValueError(f"x has {x.shape[1]} channels (shape {_shape(x)}), but the rule has {rule.channels}{hint}")
    if any(size == 0 for size in x.shape[2:]):
        raise ValueError(f"x has an empty spatial axis: shape {_shape(x)}; only the batch may be 0")
    if rule.has_filters and rule.padding in ("reflect", "circular"):
        for axis, (size, kernel) in enumerate(zip(x.shape[2:], rule.kernel_size, strict=True)):
            limit = size - 1 if rule.padding == "reflect" else size
            if kernel // 2 > limit:
                raise ValueError(
                    f"padding={rule.padding!r} with kernel_size={kernel} reaches {kernel // 2} cells past the edge, "
                    f"but spatial axis {axis} has only {size}; use padding='zeros' or 'replicate', or a larger grid"
                )


def check_params(x: Tensor, rule: Rule, params: Mapping[str, Tensor]) -> None:
    """Exactly the tensors that the rule names, with its shapes, on x's device and in its dtype."""
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a mapping of name to tensor, got {type(params).__name__}")
    shapes = rule.param_shapes()
    missing = [name for name in shapes if name not in params]
    unknown = [name for name in params if name not in shapes]
    if missing or unknown:
        parts = [f"missing {', '.join(missing)}"] if missing else []
        parts += [f"unknown {', '.join(unknown)}"] if unknown else []
        raise ValueError(f"params: {'; '.join(parts)}. This rule takes {', '.join(shapes)}")
    for name, shape in shapes.items():
        check_tensor(f"params[{name!r}]", params[name], x)
        if tuple(params[name].shape) != shape:
            raise ValueError(f"params[{name!r}] has shape {_shape(params[name])}, the rule needs {list(shape)}")


def check_tensor(name: str, value: Any, x: Tensor) -> None:
    """A floating tensor that lives where x lives, in x's dtype (autocast may mix)."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.device != x.device:
        raise ValueError(f"{name} is on {value.device}, but x is on {x.device}; move one of them")
    if value.dtype != x.dtype and not (value.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
        raise TypeError(f"{name} is {value.dtype}, but x is {x.dtype}; convert one of them")


def check_fire_mask(x: Tensor, steps: int, mask: Tensor) -> None:
    """[steps, B or 1, 1, *S] of bool, or of any dtype that holds 0 and 1."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"fire_mask must be a torch.Tensor, got {type(mask).__name__}")
    batch, *spatial = x.shape[0], *x.shape[2:]
    fits = mask.dim() == x.dim() + 1 and mask.shape[0] == steps and mask.shape[1] in (batch, 1)
    if not fits or list(mask.shape[2:]) != [1, *spatial]:
        sizes = ", ".join(str(size) for size in spatial)
        raise ValueError(
            f"fire_mask has shape {_shape(mask)}; "
            f"allowed is [steps={steps}, B={batch} or 1, 1, {sizes}], one mask per step"
        )
    if mask.device != x.device:
        raise ValueError(f"fire_mask is on {mask.device}, but x is on {x.device}; move one of them")


def check_extra(x: Tensor, rule: Rule, steps: int, extra: Tensor | None) -> None:
    """[B or 1, E, *(S or 1)], or that per step, [steps, ...]; given exactly when the rule has extra channels."""
    if extra is None:
        if rule.extra:
            raise ValueError(f"the rule has extra={rule.extra} channels, so extra= must be given")
        return
    check_tensor("extra", extra, x)
    if not rule.extra:
        raise ValueError(f"extra has shape {_shape(extra)}, but the rule has no extra channels (Rule.extra=0)")
    sizes = list(extra.shape)
    per_step = len(sizes) == x.dim() + 1
    if per_step and sizes[0] == steps:
        sizes = sizes[1:]
    want = [x.shape[0], rule.extra, *x.shape[2:]]
    fits = len(sizes) == len(want) and sizes[1] == rule.extra
    if not fits or any(have not in (1, need) for have, need in zip(sizes, want, strict=True)):
        cells = ", ".join(f"{size} or 1" for size in x.shape[2:])
        raise ValueError(
            f"extra has shape {_shape(extra)}; allowed is [B={x.shape[0]} or 1, E={rule.extra}, {cells}], "
            f"with a leading axis of steps={steps} if it changes per step"
        )


def check_count(name: str, value: Any, low: int = 0) -> None:
    """A whole number of at least `low` (a symbolic one under torch.compile)."""
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{name} must be an int, got {type(value).__name__} {value!r}")
    if value < low:
        raise ValueError(f"{name}={value} is not allowed: it must be >= {low}")


def check_memory(memory: Any) -> None:
    """'states', 'sqrt', or an int >= 1."""
    if isinstance(memory, str) and memory in ("states", "sqrt"):
        return
    if isinstance(memory, (str, bool)) or not isinstance(memory, int):
        raise ValueError(f"memory={memory!r} is not allowed: choose 'states', 'sqrt' or an int >= 1")
    check_count("memory", memory, 1)


def check_states(states: Any) -> None:
    """None, 'all', or an int >= 1."""
    if states is None or (isinstance(states, str) and states == "all"):
        return
    if isinstance(states, (str, bool)) or not isinstance(states, int):
        raise ValueError(f"states={states!r} is not allowed: choose None, 'all' or an int >= 1")
    check_count("states", states, 1)


def check_seed(seed: Any) -> None:
    """An int of 64 bits, or an int64 tensor with one element."""
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64 or seed.numel() != 1:
            raise TypeError(f"seed must be an int or an int64 tensor of one element, got {seed.dtype} {_shape(seed)}")
        return
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an int or an int64 tensor of one element, got {type(seed).__name__}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed={seed} is not allowed: it must be 0 to 2**64 - 1")


def _shape(x: Tensor) -> list[int]:
    return list(x.shape)
