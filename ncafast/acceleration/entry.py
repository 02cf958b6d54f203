"""Where a module steps: `forward(x, steps)`, a `forward(x)` that is one step, or a method that is."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ncafast.acceleration.calls import METHODS, Recorded, keeps_shape
from ncafast.acceleration.errors import NotAccelerated
from ncafast.acceleration.opened import opened

STEPS = (
    "steps",
    "num_steps",
    "n_steps",
    "nsteps",
    "iterations",
    "num_iterations",
    "n_iterations",
    "n_iter",
    "n_iters",
    "num_iters",
    "iters",
    "timesteps",
)
_INDEX = ("step", "step_index", "timestep", "index", "t", "i")  # arguments that may be the step's number

_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

Rest = tuple[tuple[str, Any], ...]  # arguments beside state and steps, by name


class Example(NamedTuple):
    """What a method is called with where its step is looked for: a state, or None where that is found out."""

    x: Tensor | None
    rest: Rest


class Call(NamedTuple):
    """A call of the user's method, taken apart."""

    x: Tensor
    steps: int
    rest: Rest


@dataclass(frozen=True)
class Entry:
    """A method that takes a state, and the number of steps or none (then it is one step)."""

    method: str
    state: str
    steps: str | None
    rest: tuple[str, ...]
    needs: tuple[str, ...] = ()  # of these, those without a default

    def call(self, module: nn.Module, x: Tensor, steps: int, rest: Rest) -> Any:
        """Run the user's own method."""
        count = {} if self.steps is None else {self.steps: steps}
        return getattr(module, self.method)(**{self.state: x}, **count, **dict(rest))

    def states(self, x: Tensor, out: Any) -> list[int]:
        """Which of the tensors in a result may be the next state.

        Raises:
            NotAccelerated: none.
        """
        tensors = opened(out)[0]
        found = [k for k, tensor in enumerate(tensors) if tensor.shape == x.shape]
        if not tensors:
            raise NotAccelerated(f"{self.method} returns a {type(out).__name__} that is no tensor and holds none")
        if not found:
            raise NotAccelerated(f"{self.method} makes {list(tensors[0].shape)} of a state {list(x.shape)}")
        return found

    def parts(self, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """State, steps and the other arguments of a call.

        Raises:
            TypeError: it does not fit the method's signature.
        """
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values = bound.arguments
        rest = tuple((name, values[name]) for name in self.rest)
        return Call(values[self.state], 1 if self.steps is None else _count(values[self.steps]), rest)


def _count(steps: Any) -> Any:
    """A number of steps, also where it is an integer tensor on the CPU or one of NumPy; else what was given."""
    whole = isinstance(steps, np.integer) or (isinstance(steps, Tensor) and steps.numel() == 1)
    if isinstance(steps, Tensor):
        whole = whole and steps.device.type == "cpu" and steps.dtype in _WHOLE
    return int(steps) if whole else steps


def entries(
    module: nn.Module, method: str | None = None, steps: str | None = None, calls: Mapping[str, Recorded] | None = None
) -> Iterator[Entry]:
    """The methods of a module that may step, best first.

    Args:
        module: where to look.
        method: the only method to take.
        steps: the name of the argument that is the number of steps.
        calls: calls of its methods that were recorded; methods of other names are then taken too.
    """
    calls = calls or {}
    others = [name for name, call in calls.items() if keeps_shape(next(iter(call.arguments.values()), None), call.out)]
    for name in [method] if method is not None else dict.fromkeys(["forward", *METHODS, *others]):
        function = getattr(type(module), name, None)
        if not inspect.isfunction(function) or getattr(nn.Module, name, None) is function:
            continue
        found = _entry(name, inspect.signature(function.__get__(module)), steps, calls.get(name))
        if found is not None:
            yield found


def _entry(name: str, signature: inspect.Signature, steps: str | None, call: Recorded | None) -> Entry | None:
    parameters = list(signature.parameters.values())
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if len(plain) != len(parameters) or not plain:
        return None
    given = call.arguments if call is not None else {}
    state = next((p for p in plain if call is not None and keeps_shape(given[p.name], call.out)), plain[0])
    others = [p for p in plain if p is not state]
    known = (steps,) if steps is not None else STEPS
    count = next((p.name for p in others if p.name in known), None)
    rest = [p for p in others if p.name != count]
    needs = tuple(p.name for p in rest if _default(p) is p.empty)
    return Entry(name, state.name, count, tuple(p.name for p in rest), needs)


def defaults(function: Any, entry: Entry) -> Rest:
    """The other arguments of a call of the user's method that gives none of them."""
    parameters = inspect.signature(function).parameters
    return tuple((name, _default(parameters[name])) for name in entry.rest)


def _default(parameter: inspect.Parameter) -> Any:
    """An argument's default; 1 for the number of a step that has none."""
    indexes = parameter.default is parameter.empty and parameter.name in _INDEX
    return 1 if indexes else parameter.default


def example_of(function: Any, entry: Entry, call: Recorded | None) -> Example | None:
    """The call to look at: the recorded one, or that without other arguments where there may be none."""
    if call is not None:
        return Example(call.arguments[entry.state], tuple((name, call.arguments[name]) for name in entry.rest))
    return None if entry.needs else Example(None, defaults(function, entry))
