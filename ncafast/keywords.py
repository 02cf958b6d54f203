"""Keyword options that a function does not take, refused with the ones that it does."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any, NoReturn


def options_of(function: Callable[..., Any], first: int) -> tuple[str, ...]:
    """Names of a function's parameters from the place `first` on, without *args and **kwargs."""
    parameters = list(inspect.signature(function).parameters.values())[first:]
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def refuse_unknown(owner: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise TypeError if an option is not among the known ones; written so that torch.compile can trace it."""
    for name in given:
        if name not in known:
            _refuse(owner, name, known)


def _refuse(owner: str, name: str, known: Collection[str]) -> NoReturn:
    raise TypeError(f"{owner} has no option {name!r}{hint(name, known)}; known are {', '.join(known)}")


def hint(name: str, known: Collection[str]) -> str:
    """The known name that looks most like a wrong one, as a question in brackets; empty where none does."""
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
