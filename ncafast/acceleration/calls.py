"""The calls that a model makes of its own methods, recorded once on the user's example of its inputs."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ncafast.acceleration.aside import aside
from ncafast.acceleration.double import copied, is_patch
from ncafast.acceleration.errors import NotAccelerated, at_exception


@dataclass
class Recorded:
    """The first call of a method."""

    arguments: dict[str, Any]
    out: Any


METHODS = (
    *("step", "update", "_step", "_update", "update_step", "_update_step"),
    *("forward_step", "_forward_step", "single_step", "one_step", "nca_step"),
)
Calls = dict[tuple[str, str], Recorded]  # of a module, by its name, and a method


def record(model: nn.Module, inputs: Sequence[Any], method: str | None = None) -> Calls:
    """Run a copy of the model on an example and note the first call of each method of its modules.

    Args:
        model: the user's.
        inputs: of its forward or, where it has none, of its step method.
        method: what takes them instead.

    Raises:
        NotAccelerated: the model cannot be copied, or fails.
    """
    if not inputs:
        return {}
    calls: Calls = {}
    with aside(model), torch.no_grad():
        try:
            twin = copied(model)
            for name, module in twin.named_modules():
                for own, function in _methods(module):
                    vars(module)[own] = _Recorder(calls, (name, own), function.__get__(module))
            getattr(twin, called(model, method))(*copy.deepcopy(tuple(inputs)))
        except Exception as error:  # of the user's code
            raise NotAccelerated(f"the model fails on the example of its inputs: {at_exception(error)}") from error
    return calls


def called(model: nn.Module, method: str | None) -> str:
    """The method that takes the example; a forward is called with the module's hooks."""
    if method in (None, "forward") and type(model).forward is not nn.Module.forward:
        return "__call__"
    return next((name for name in (method, *METHODS) if name is not None and hasattr(model, name)), "__call__")


def _methods(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Methods of the user's own, those that `accelerate` replaced as they were."""
    if type(module).__module__.startswith("torch.nn."):
        return
    for name in dir(type(module)):
        function = inspect.getattr_static(type(module), name)
        own = inspect.isfunction(function) and getattr(nn.Module, name, None) is not function
        if own and not name.startswith("__") and (name not in vars(module) or is_patch(vars(module)[name])):
            yield name, function


class _Recorder:
    """Calls a method and notes the first call."""

    def __init__(self, calls: Calls, key: tuple[str, str], method: Any) -> None:
        self.calls, self.key, self.method = calls, key, method
        functools.update_wrapper(self, method)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        out = self.method(*args, **kwargs)
        if self.key not in self.calls:
            bound = inspect.signature(self.method).bind(*args, **kwargs)
            bound.apply_defaults()
            self.calls[self.key] = Recorded(dict(bound.arguments), out)
        return out


def keeps_shape(value: Any, out: Any) -> bool:
    """Whether a value may be a state that a method steps: a result has its shape."""
    found = [leaf for leaf in pytree.tree_leaves(out) if isinstance(leaf, Tensor)]
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and 3 <= value.dim() <= 5
        and any(leaf.shape == value.shape for leaf in found)
    )
