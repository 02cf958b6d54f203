"""The one gate: every argument of a rollout is checked here, before any pointer is taken.

Messages name the argument, its value and what is allowed. TypeError for a wrong kind, ValueError for a wrong value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from ncafast.half import fits
from ncafast.rule import Rule
from ncafast.values import as_int, shown

_COUNTER = 2**32  # step and sample are 32-bit words of the random counter
_MOST_ELEMENTS = 2**63 - 1  # offsets are signed 64-bit; torch.jit.trace compares with it as such a number
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_AUTOCAST = _DTYPES[:3]  # what autocast mixes: like torch's own layers it leaves float64 alone


def check_rollout(
    x: Tensor,  # [B, C, *S]
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    first_step: int,
    first_sample: int,
    fire_mask: Tensor | None,
    extra: Tensor | None,
) -> tuple[int, int, int]:
    """Raise unless every backend may run this; return steps, first_step and first_sample as plain ints."""
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be an ncafast.Rule, got {type(rule).__name__}")
    check_state(x, rule)
    steps = check_count("steps", steps)
    first_step = check_count("first_step", first_step)
    first_sample = check_count("first_sample", first_sample)
    if not torch.compiler.is_compiling():  # each would bound the sizes that an exported program takes
        check_limits(x.shape, steps, first_step, first_sample)
    check_params(x, rule, params)
    if fire_mask is not None:
        check_fire_mask(x, steps, fire_mask)
    check_extra(x, rule, steps, extra)
    return steps, first_step, first_sample


def check_limits(shape: Sequence[int], steps: int, first_step: int, first_sample: int) -> None:
    """Raise where the random counter or 64-bit offsets are too narrow for a rollout."""
    if prod(shape) * (steps + 1) > _MOST_ELEMENTS:
        raise ValueError(
            f"x of shape {list(shape)} over steps={shown(steps)} has more than 2**63 elements; "
            "run fewer steps at a time"
        )
    if first_step + steps > _COUNTER:
        raise ValueError(f"first_step + steps = {shown(first_step + steps)} must not exceed 2**32")
    if first_sample + shape[0] > _COUNTER:
        raise ValueError(f"first_sample + batch = {shown(first_sample + shape[0])} must not exceed 2**32")


def check_state(x: Tensor, rule: Rule) -> None:
    """The state's kind, rank, channels, size and padding."""
    check_floating("x", x)
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
    """Exactly the tensors that the rule names, each in its shape or with an axis B in front, on x's device and in its
    dtype, see `check_tensor`."""
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a mapping of name to tensor, got {type(params).__name__}")
    shapes = rule.param_shapes()
    missing = [name for name in shapes if name not in params]
    unknown = [name for name in params if name not in shapes]
    if missing or unknown:
        parts = [f"missing {', '.join(missing)}"] if missing else []
        if unknown:
            parts.append(f"unknown {', '.join(name if isinstance(name, str) else shown(name) for name in unknown)}")
        raise ValueError(f"params: {'; '.join(parts)}. This rule takes {', '.join(shapes)}")
    for name, shape in shapes.items():
        check_tensor(f"params[{name!r}]", params[name], x)
        if tuple(params[name].shape) not in (shape, (x.shape[0], *shape)):
            raise ValueError(
                f"params[{name!r}] has shape {_shape(params[name])}, the rule needs {list(shape)}, "
                f"or [B={x.shape[0]}, {', '.join(map(str, shape))}] where each sample has its own"
            )


def per_sample(rule: Rule, params: Mapping[str, Tensor]) -> bool:
    """Whether any parameter has an axis of samples in front."""
    return any(params[name].dim() > len(shape) for name, shape in rule.param_shapes().items())


def check_dense(name: str, value: Any) -> None:
    """A tensor whose elements lie in memory by strides; what torch.compile traces with looks like one."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout is not torch.strided or value.is_nested:
        kind = "nested" if value.is_nested else str(value.layout).removeprefix("torch.").removeprefix("_")
        raise TypeError(f"{name} must be a dense tensor, got a {kind} one; convert it, for example with to_dense()")


def check_floating(name: str, value: Any) -> None:
    """A dense tensor of a dtype to compute in, with memory."""
    check_dense(name, value)
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}; convert it with {name}.float()")
    if value.dtype not in _DTYPES:
        raise TypeError(f"{name} must be float16, bfloat16, float32 or float64, got {value.dtype}")
    if value.is_meta:
        raise TypeError(f"{name} is on the meta device, which holds no numbers; move it to the CPU or a GPU")


def check_tensor(name: str, value: Any, x: Tensor) -> None:
    """A dense floating tensor that lives where x lives, in x's dtype or one that goes with it (autocast may mix)."""
    check_dense(name, value)
    if value.device != x.device:
        raise ValueError(f"{name} is on {value.device}, but x is on {x.device}; move one of them")
    if not fits(value.dtype, x.dtype) and not (
        value.dtype in _AUTOCAST and x.dtype in _AUTOCAST and torch.is_autocast_enabled(x.device.type)
    ):
        raise _mixed(name, value, x)


def check_layer(name: str, weight: Tensor, x: Tensor) -> None:
    """The weight of a layer of PyTorch's that reads x, in x's dtype (autocast may mix)."""
    if weight.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
        raise _mixed(name, weight, x)


def _mixed(name: str, weight: Tensor, x: Tensor) -> TypeError:
    narrow = weight.dtype.itemsize < x.dtype.itemsize == torch.float32.itemsize
    advice = ", such as all weights with model.float()" if narrow and name.startswith("params[") else ""
    return TypeError(f"{name} is {weight.dtype}, but x is {x.dtype}; convert one of them{advice}")


def check_fire_mask(x: Tensor, steps: int, mask: Tensor) -> None:
    """[steps, B or 1, 1, *S] of bool, or of any dtype that holds 0 and 1."""
    check_dense("fire_mask", mask)
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


def check_count(name: str, value: Any, low: int = 0) -> int:
    """A whole number of at least `low`, as an int (a symbolic one under torch.compile)."""
    found = _int(value)
    if found is None:
        raise TypeError(f"{name} must be an int, got {type(value).__name__} {shown(value)}")
    if found < low:
        raise ValueError(f"{name}={shown(found)} is not allowed: it must be >= {low}")
    return found


def check_memory(memory: Any) -> Any:
    """'states', 'sqrt', or an int >= 1; returned with a plain int."""
    if isinstance(memory, str) and memory in ("states", "sqrt"):
        return memory
    return _period("memory", memory, "'states', 'sqrt'")


def check_states(states: Any) -> Any:
    """None, 'all', or an int >= 1; returned with a plain int."""
    if states is None or (isinstance(states, str) and states == "all"):
        return states
    return _period("states", states, "None, 'all'")


def check_seed(seed: Any) -> int | Tensor:
    """An int of 64 bits, or an int64 tensor with one element; returned with a plain int."""
    if isinstance(seed, Tensor):
        check_dense("seed", seed)
        if seed.dtype != torch.int64 or seed.numel() != 1:
            raise TypeError(f"seed must be an int or an int64 tensor of one element, got {seed.dtype} {_shape(seed)}")
        if seed.is_meta:
            raise TypeError("seed is on the meta device, which holds no numbers; move it to the CPU or a GPU")
        return seed
    found = _int(seed)
    if found is None:
        raise TypeError(f"seed must be an int or an int64 tensor of one element, got {type(seed).__name__}")
    if not 0 <= found < 2**64:
        raise ValueError(f"seed={shown(found)} is not allowed: it must be 0 to 2**64 - 1")
    return found


def check_shape(shape: Any) -> tuple[int, tuple[int, ...]]:
    """The sizes of a state, [B, C, *S]; returned as B and S."""
    if isinstance(shape, str) or not isinstance(shape, Iterable):
        raise TypeError(f"shape must be that of a state, [B, C, *S], got {type(shape).__name__} {shown(shape)}")
    sizes = tuple(shape)
    if len(sizes) < 3:
        raise ValueError(f"shape={shown(sizes)} must be that of a state, [B, C, *S]")
    batch, _, *spatial = (check_count(f"shape[{axis}]", size) for axis, size in enumerate(sizes))
    return batch, tuple(spatial)


def check_device(device: Any) -> torch.device:
    """A device as torch.device takes it; None is the CPU."""
    try:
        return torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device={shown(device)} is not a device: give one such as 'cpu' or 'cuda:0'") from None


def _period(name: str, value: Any, words: str) -> int:
    found = _int(value)
    if found is None:
        raise ValueError(f"{name}={shown(value)} is not allowed: choose {words} or an int >= 1")
    return check_count(name, found, 1)


def _int(value: Any) -> int | None:
    """The value as an int, or None if it is none; the symbolic one of torch.compile stays what it is."""
    if isinstance(value, (int, torch.SymInt)):
        return None if isinstance(value, bool) else value  # type: ignore[return-value]
    return as_int(value)


def _shape(x: Tensor) -> list[int]:
    return list(x.shape)
