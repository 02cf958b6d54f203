"""Rollouts that run on the reference backend although a fused one exists for their device: said once per reason."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType

from torch import Tensor

from ncafast.rule import Rule

_INSTALL = (
    "install a C++ compiler (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select "
    "--install; Windows: the Build Tools for Visual Studio), then ncafast again; `ncafast info` has the details"
)
_said: set[str] = set()


class FallbackWarning(UserWarning):
    """A rollout runs on the slower reference backend, which nobody has asked for."""


def warn(fused: dict[str, ModuleType], rule: Rule, x: Tensor) -> None:
    """Warn, once per process and reason, if one of the fused backends is made for the state's device.

    Backends that are not verified on hardware do not count: they are only taken by name.
    """
    for name, backend in fused.items():
        if backend.UNVERIFIED or x.device.type != backend.DEVICE:
            continue
        missing = backend.unavailable()
        if missing is not None:
            text = f"rollouts run on the reference backend, which is slow: {missing.splitlines()[0]}; {_INSTALL}"
        else:
            reason = backend.can_run(rule, x)
            text = (
                f"this rollout runs on the reference backend, which is slower than the fused {name!r} backend: "
                f"{reason}. backend='reference' chooses it without this warning"
            )
        if text not in _said:
            _said.add(text)
            warnings.warn(text, FallbackWarning, stacklevel=_caller())
        return


def _caller() -> int:
    """The stack level, seen from `warn`, of the first frame that is neither ncafast's nor torch's."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("ncafast", "torch"):
        frame, level = frame.f_back, level + 1
    return level
