"""Which keyword arguments a module or function can be called with, said before it is called with others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

_INSTEAD = {
    "seed": "leave it out, and torch.manual_seed seeds what the module draws",
    "first_sample": "runs with seed= and at_once= need it, to draw different masks; leave out at_once or seed",
    "states": "states='all' asks for the states of a run, [T, B, ...], returned last; "
    "give a function that takes states= or last_steps=",
}


def takes(model: Callable[..., Any], name: str) -> bool:
    """Whether a call of the model takes this keyword argument by name."""
    return name in _parameters(model)


def check_options(model: Callable[..., Any], names: Iterable[str]) -> None:
    """Raise TypeError where a call of the model does not take one of these keyword arguments. Of what shows no
    signature, such as a module of torch.jit.trace, nothing is known.
    """
    parameters = _parameters(model)
    if not parameters or any(kind is inspect.Parameter.VAR_KEYWORD for kind in parameters.values()):
        return
    for name in names:
        if name not in parameters:
            owner = getattr(model, "__name__", type(model).__name__)
            instead = _INSTEAD.get(name, "options go to its call; leave it out")
            raise TypeError(f"{owner} takes no {name!r} ({', '.join(parameters)} are what it takes): {instead}")


def _parameters(model: Callable[..., Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(getattr(model, "forward", model)).parameters
    except ValueError:
        return {}
    return {name: parameter.kind for name, parameter in parameters.items()}
