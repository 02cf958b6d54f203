"""What a match stands on: all of a module but the numbers in its parameters. A change of it is noticed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ncafast.acceleration.double import is_patch, plain_attributes
from ncafast.acceleration.errors import NotAccelerated
from ncafast.acceleration.graph import STATISTICS

Names = frozenset[tuple[str, str]]  # of a part of the module, and its attribute
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_LARGE = 2**14  # elements; so many are compared within microseconds


def structure(module: nn.Module, without: Names = frozenset()) -> tuple[Any, ...]:
    """A value that compares equal as long as a match holds. `without` are attributes that do not matter.

    Modes and classes of all submodules, kinds of parameters, plain attributes and what is in them, contents of tensors
    that are neither parameters nor statistics of a norm.
    """
    return tuple(
        (
            name,
            type(part),
            _of_class(type(part)),
            part.training,
            tuple((key, p.shape, p.dtype, p.device) for key, p in part._parameters.items() if p is not None),
            tuple((key, _buffer(key, b)) for key, b in part._buffers.items() if b is not None),
            tuple((key, _plain(value)) for key, value in plain_attributes(part) if (name, key) not in without),
            tuple(len(getattr(part, hooks)) for hooks in _HOOKS) if name else (),
        )
        for name, part in module.named_modules()
    )


def differences(before: tuple[Any, ...], after: tuple[Any, ...]) -> Names:
    """The buffers and attributes that differ between two structures of a module."""
    found = set()
    for old, new in zip(before, after, strict=True):
        mine, other = dict(old[5] + old[6]), dict(new[5] + new[6])
        found |= {(old[0], name) for name in {*mine, *other} if name not in mine or mine[name] != other.get(name)}
    return frozenset(found)


def check_hooks(module: nn.Module) -> None:
    """Refuse hooks inside a module, which would no longer be called, and methods replaced by others.

    Raises:
        NotAccelerated: there is one.
    """
    for name, part in module.named_modules():
        if "forward" in vars(part) and not is_patch(vars(part)["forward"]):
            whose = f"the forward of its submodule {name!r}" if name else "its forward"
            raise NotAccelerated(f"{whose} was replaced on this one instance, so its class does not say what runs")
        if name and any(len(getattr(part, hooks)) for hooks in _HOOKS):
            raise NotAccelerated(f"its submodule {name!r} has a hook, which would no longer be called")


def _of_class(kind: type) -> tuple[Any, ...]:
    """Numbers, words and tensors that the user's classes hold."""
    own = (base for base in kind.__mro__ if not base.__module__.startswith(("torch.", "builtins")))
    return tuple(
        (name, _plain(value))
        for base in own
        for name, value in vars(base).items()
        if isinstance(value, (bool, int, float, str, Tensor)) and not name.startswith("__")
    )


def _buffer(name: str, tensor: Tensor) -> Any:
    if name in STATISTICS:
        return tensor.shape
    return Snapshot(tensor)


def _plain(value: Any, depth: int = 3) -> Any:
    if isinstance(value, Tensor):
        return Snapshot(value)
    if isinstance(value, (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)):
        return value
    if isinstance(value, (list, tuple)) and depth:
        return (type(value), *(_plain(part, depth - 1) for part in value[:64]), len(value))
    if isinstance(value, dict) and depth:
        return (dict, *((str(key), _plain(part, depth - 1)) for key, part in list(value.items())[:64]), len(value))
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    settings = None if callable(value) or isinstance(value, type) else getattr(value, "__dict__", None)
    if settings and depth:  # an object of options
        return type(value), _plain(dict(settings), depth - 1)
    return id(value)


class Snapshot:
    """A tensor that a match stands on. Two are equal if they hold the same numbers, on whatever device.

    `freeze` keeps a copy to compare with; before that only the same tensor, unchanged, is known to be equal. Of a large
    one or on a GPU, which would wait for it, torch's count of changes is believed, which `.data` and NumPy go round.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.version = tensor, 0 if tensor.is_inference() else tensor._version
        self.copy: Tensor | None = None

    def freeze(self) -> None:
        """Keep the present numbers."""
        self.copy = self.tensor.detach().cpu().clone()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot) or self.tensor.shape != other.tensor.shape:
            return False
        if self.tensor is other.tensor and self.version == other.version and not self._is_cheap():
            return True
        mine, theirs = (s.copy if s.copy is not None else s.tensor.detach().cpu() for s in (self, other))
        return (
            (self.copy is not None or other.copy is not None or self.tensor is other.tensor)
            and mine.dtype == theirs.dtype
            and _same(mine, theirs)
        )

    def __hash__(self) -> int:
        return hash(self.tensor.shape)

    def _is_cheap(self) -> bool:
        plain = type(self.tensor) in (Tensor, nn.Parameter) and self.tensor.layout is torch.strided
        return plain and self.tensor.device.type == "cpu" and self.tensor.numel() <= _LARGE


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers; NaN is the same as NaN."""
    if torch.equal(one, other):
        return True
    plain = one.is_floating_point() and one.layout is torch.strided
    return plain and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def freeze(value: Any) -> None:
    """Freeze all snapshots in a structure."""
    if isinstance(value, Snapshot):
        value.freeze()
    elif isinstance(value, tuple):
        for part in value:
            freeze(part)
