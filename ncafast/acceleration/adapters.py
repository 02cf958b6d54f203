"""Adapters: for modules that tracing does not understand, somebody who knows them says which rule they run.

A package that accelerates the modules of another declares so in its pyproject.toml,

    [project.entry-points."ncafast.adapters"]
    their_package = "my_package.adapters"

where the name is the top-level package of the modules, and the value a module that defines adapters with `adapter`. It
is imported when a module of that package is accelerated.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import TypeVar

from torch import Tensor, nn

from ncafast.rule import Rule

GROUP = "ncafast.adapters"


@dataclass(frozen=True)
class Adapted:
    """What an adapter says of one module. It is verified before it is used, as what tracing finds is.

    Attributes:
        rule: one step.
        parameters: the rule's tensors from the module's present ones, differentiable; called for each rollout.
        draw: the module's own draw for one step of a state [B, C, *S], with torch's generator: bool [B, 1, *S], which
            cells update. None for a rule of which every cell updates.
        channels_last: whether the module's states are [B, *S, C].
        method: the method that takes a state and returns the next one.
        steps: its argument for the number of steps; None: a usual name if it has one, else it is one step.
    """

    rule: Rule
    parameters: Callable[[nn.Module], dict[str, Tensor]]
    draw: Callable[[Tensor], Tensor] | None = None
    channels_last: bool = False
    method: str = "forward"
    steps: str | None = None


Adapter = Callable[..., Adapted | None]
Given = TypeVar("Given", bound=Adapter)
_adapters: dict[type[nn.Module], Adapter] = {}
_asked: set[str] = set()  # packages whose entry points were loaded


def adapter(cls: type[nn.Module]) -> Callable[[Given], Given]:
    """Register a function as the adapter of a class of modules and of those that inherit from it.

    The function takes a module, and returns an `Adapted`, or None where the module is not one that it knows; tracing is
    then tried.

    Args:
        cls: the class.

    Returns:
        A decorator, which leaves the function as it is.

    Raises:
        TypeError: no class of modules.
    """
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise TypeError(f"adapter takes a subclass of torch.nn.Module, got {cls!r}")

    def register(function: Given) -> Given:
        _adapters[cls] = function
        return function

    return register


def adapter_of(module: nn.Module) -> Adapter | None:
    """The adapter of a module's class, or of the nearest one that it inherits from."""
    for cls in type(module).__mro__:
        _load(cls.__module__.partition(".")[0])
        if cls in _adapters:
            return _adapters[cls]
    return None


def _load(package: str) -> None:
    """Import what installed packages declare for the modules of one package."""
    if package in _asked:
        return
    _asked.add(package)
    for point in metadata.entry_points(group=GROUP, name=package):
        try:
            point.load()
        except Exception as error:  # whatever another package's code raises
            owner = point.dist.name if point.dist is not None else "an unknown package"
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            warnings.warn(f"{point.value} of {owner} cannot be loaded: {reason}", UserWarning, stacklevel=2)
