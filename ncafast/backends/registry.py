"""All backends by name: the built-in ones, and those that installed packages declare as entry points.

Entry points are looked up when a backend is first asked for and not at import, since that reads the metadata of every
installed package.
"""

from __future__ import annotations

import warnings
from importlib import metadata
from typing import Any, NamedTuple

from ncafast.backends import cpu, cuda, reference, triton
from ncafast.backends.protocol import ATTRIBUTES, FUNCTIONS, Backend
from ncafast.compiling import constant_result

GROUP = "ncafast.backends"
_FUSED: dict[str, Backend] = {"cuda": cuda, "triton": triton, "cpu": cpu}  # fastest first
_LAST: dict[str, Backend] = {"reference": reference}
BUILT_IN = (*_FUSED, *_LAST)


class Plugin(NamedTuple):
    """A backend of another package."""

    backend: Backend
    package: str  # "name version"
    module: str  # where it was loaded from


class Broken:
    """Stands for a backend whose entry point cannot be used: it says so wherever it is asked."""

    DEVICE: str | None = None
    UNVERIFIED: str | None = None

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def unavailable(self) -> str | None:
        """Why it cannot be used."""
        return self._reason

    def can_run(self, *_: Any) -> str | None:
        """The same."""
        return self._reason

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError(self._reason)

    outputs = forward = backward = _refuse


loaded: dict[str, Backend] = {}  # in the order of the automatic choice; empty before the first `names()`
_plugins: dict[str, Plugin] = {}


@constant_result  # torch.compile cannot trace a look at installed packages
def names() -> tuple[str, ...]:
    """All backends, in the order in which the automatic choice tries them."""
    if not loaded:
        _plugins.update(_found())
        others = {name: plugin.backend for name, plugin in _plugins.items()}
        first = {name: backend for name, backend in others.items() if getattr(backend, "FIRST", False)}
        loaded.update(first | _FUSED | others | _LAST)
    return tuple(loaded)


def plugin(name: str) -> Plugin | None:
    """What is known of another package's backend; None for a built-in one."""
    return None if name in BUILT_IN else _plugins.get(name)


def forget() -> None:
    """Look for entry points again when a backend is next asked for; for tests."""
    loaded.clear()
    _plugins.clear()


def _found() -> dict[str, Plugin]:
    found: dict[str, Plugin] = {}
    points = metadata.entry_points(group=GROUP)
    for point in sorted(points, key=lambda point: (point.name, _package(point))):
        if point.name in BUILT_IN or point.name in found:
            owner = found[point.name].package if point.name in found else "ncafast"
            _warn(f"backend {point.name!r} of {_package(point)} is ignored: {owner} has one of that name")
        else:
            found[point.name] = Plugin(_load(point), _package(point), point.module)
    return found


def _load(point: metadata.EntryPoint) -> Backend:
    """The backend that an entry point names, or one that says why it cannot be used."""
    try:
        backend = point.load()
    except Exception as error:  # whatever another package's code raises
        reason = f"{point.value} cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())}"
    else:
        missing = [name for name in FUNCTIONS if not callable(getattr(backend, name, None))]
        missing += [name for name in ATTRIBUTES if not hasattr(backend, name)]
        if not missing:
            return backend  # type: ignore[no-any-return]
        reason = f"{point.value} lacks {', '.join(missing)}, see ncafast.backends.Backend"
    _warn(f"backend {point.name!r} of {_package(point)} cannot be used: {reason}")
    return Broken(reason)


def _package(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown package"


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=2)
