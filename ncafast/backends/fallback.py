"""Rollouts that run on the reference backend although a fused one exists for their device: said once per reason."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping

import torch

from ncafast.backends import trust
from ncafast.backends.protocol import Backend

_INSTALL = (
    "install a C++ compiler (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select "
    "--install; Windows: the Build Tools for Visual Studio), then ncafast again; `ncafast info` has the details"
)
_said: set[str] = set()


class FallbackWarning(UserWarning):
    """A rollout runs on the slower reference backend, which nobody has asked for."""


def warn(reasons: dict[str, str], backends: Mapping[str, Backend], device: torch.device) -> None:
    """Warn, once per process and reason, if a fused backend is made for this device.

    Args:
        reasons: why each fused backend does not run the rollout, by name.
        backends: all by name.
        device: the state's.
    """
    wanted = {name: reason for name, reason in reasons.items() if device.type == backends[name].DEVICE}
    if not wanted or (device.type == "cuda" and not trust.enabled()):  # who switched the check off knows
        return
    listed = "; ".join(
        f"not on the fused {name!r} backend: {reason.splitlines()[0]}" for name, reason in wanted.items()
    )
    text = (
        f"this rollout runs on the reference backend, which is slower, and {listed}. backend='reference' chooses it "
        "without this warning"
    )
    if "cpu" in wanted and backends["cpu"].unavailable() is not None:
        text = f"rollouts run on the reference backend, which is slow: {wanted['cpu'].splitlines()[0]}; {_INSTALL}"
    if text not in _said:
        _said.add(text)
        warnings.warn(text, FallbackWarning, stacklevel=_caller())


def _caller() -> int:
    """The stack level, seen from `warn`, of the first frame that is neither ncafast's nor torch's."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("ncafast", "torch"):
        frame, level = frame.f_back, level + 1
    return level
