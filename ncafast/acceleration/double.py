"""The user's own code in float64: a copy of the module, and a mode under which constants that it makes are float64."""

from __future__ import annotations

import copy
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.fx import traceback as fx_traceback
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ncafast.acceleration.errors import LIBRARIES, NotAccelerated, at_exception

_NARROW = (torch.float16, torch.bfloat16, torch.float32)
_TRACER = tuple(str(Path(torch.__file__).parent / part) for part in ("fx", "_subclasses", "_functorch"))
_CASTS = (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16)


def double_copy(module: nn.Module) -> nn.Module:
    """A copy of the module with every floating tensor in float64, also those that are plain attributes.

    Raises:
        NotAccelerated: the module cannot be copied.
    """
    try:
        twin = copied(module).double()
    except Exception as error:  # a user's module may hold anything
        raise NotAccelerated(f"the module cannot be copied: {at_exception(error)}") from error
    for part in twin.modules():
        for name in [name for name, value in vars(part).items() if is_patch(value)]:
            del vars(part)[name]  # the user's own code is what is looked at
        for name, value in plain_attributes(part):
            vars(part)[name] = _widened(value)
    return twin


def copied(module: nn.Module) -> nn.Module:
    """A deep copy. Tensors that were computed, as by `torch.func.functional_call`, are cut off from what made them."""
    cut: dict[int, Any] = {}
    for part in module.modules():
        own = {id(value): value for value in part._parameters.values() if value is not None}
        others = tree_leaves([list(part._buffers.values()), [value for _, value in plain_attributes(part)]])
        for value in (*own.values(), *others):
            if isinstance(value, Tensor) and not value.is_leaf:
                leaf = value.detach().clone()
                cut[id(value)] = nn.Parameter(leaf, value.requires_grad) if id(value) in own else leaf
    return copy.deepcopy(module, cut)


def is_patch(value: Any) -> bool:
    """Whether an attribute is what `accelerate` put in the place of a method."""
    return hasattr(type(value), "replaces_a_method")


def plain_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Attributes of a module that torch does not manage: numbers, lists, tensors that are neither parameter nor buffer.

    What `accelerate` itself left there is not among them.
    """
    for name, value in list(vars(module).items()):
        managed = name in ("_parameters", "_buffers", "_modules") or name.endswith(("_hooks", "_hooks_with_kwargs"))
        if not managed and not is_patch(value):
            yield name, value


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Put back what is written into attributes: a tensor that is traced must not be kept."""
    before: list[tuple[nn.Module, dict[str, Any]]] = [(part, dict(plain_attributes(part))) for part in module.modules()]
    try:
        yield
    finally:
        for part, values in before:
            for name, _ in plain_attributes(part):
                if name not in values:
                    del vars(part)[name]
            vars(part).update(values)


class Double(TorchFunctionMode):
    """While on, what the code makes in lower precision is made float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call in float64, unless it is the tracer that calls."""
        if sys._getframe(1).f_code.co_filename.startswith(_TRACER):
            return func(*args, **(kwargs or {}))
        if func in _CASTS:
            func = torch.Tensor.double
        args = tuple(_widened(value) for value in args)
        kwargs = {name: _widened(value) for name, value in (kwargs or {}).items()}
        result = func(*args, **kwargs)
        return result.double() if isinstance(result, Tensor) and result.dtype in _NARROW else result


class Lines(TorchFunctionMode):
    """While on, torch.fx notes with each node the line of the user's code that it comes from."""

    known: ClassVar[str | None] = None  # that line, where it is a graph of the user's code that runs

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, after the line is noted."""
        if Lines.known is not None:
            fx_traceback.set_stack_trace([Lines.known])
            return func(*args, **(kwargs or {}))
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code.co_filename.startswith(LIBRARIES):
            frame = frame.f_back
        if frame is not None:
            fx_traceback.set_stack_trace(traceback.format_list(traceback.extract_stack(frame, limit=1)))
        return func(*args, **(kwargs or {}))


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.dtype in _NARROW else value
    if isinstance(value, torch.dtype):
        return torch.float64 if value in _NARROW else value
    if type(value) in (list, tuple):
        return type(value)(_widened(part) for part in value)
    return value
