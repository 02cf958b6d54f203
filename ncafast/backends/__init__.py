"""Backends: interchangeable ways to run a rollout, fastest first, and the choice between them.

A backend is a module or object with the attributes and functions of `Backend`; other packages may bring some, see
`protocol`. The reasons that `unavailable` and `can_run` give serve to choose, to list and to refuse. GPU backends and
those of other packages are chosen by default only where `trust` has a verdict that they passed a check on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ncafast.backends import cpu_members, fallback, registry, trust
from ncafast.backends.fallback import FallbackWarning
from ncafast.backends.members import MembersBackend, OneByOne
from ncafast.backends.plan import Call, Gradients, Outputs, Plan
from ncafast.backends.precision import precision as default_precision
from ncafast.backends.protocol import Backend
from ncafast.backends.registry import names
from ncafast.compiling import constant_result
from ncafast.rule import Rule

__all__ = [
    "Backend",
    "Call",
    "FallbackWarning",
    "Gradients",
    "Outputs",
    "Plan",
    "available",
    "choose",
    "explain",
    "get",
    "members_of",
    "names",
    "use",
]

_forced: str | None = None  # a plain global, since torch.compile cannot trace a ContextVar


def get(name: str) -> Backend:
    """The backend of that name.

    Raises:
        ValueError: no such backend.
    """
    backend = registry.loaded.get(name)
    if backend is None:
        if name not in names():  # which loads them
            raise ValueError(f"backend={name!r} is not known: choose from {', '.join(names())}")
        backend = registry.loaded[name]
    return backend


def members_of(name: str) -> MembersBackend:
    """How the backend of that name runs members: rollouts with parameters of their own, see `members`."""
    return cpu_members if name == "cpu" else OneByOne(get(name))


def available() -> list[str]:
    """Names of the backends that this machine can run, fastest first."""
    return [name for name in names() if get(name).unavailable() is None]


def explain(rule: Rule, x: Tensor) -> dict[str, str | None]:
    """For every backend, fastest first: None if it may be chosen for this rule and state, else the reason why not.

    A GPU backend, or one of another package, may be chosen once it has passed a check on this machine, which the first
    rollout starts; until then, and where it failed, the reason says so. It can be asked for by name all the same. Other
    reasons name the field of the rule, or the dtype, that is not fused.

    Args:
        rule: the step.
        x: a state [B, C, *S]; only its shape, dtype and device matter.
    """
    rounding = default_precision(x)
    return {name: _reason(name, rule, x, rounding) or _distrust(name, rule, x, rounding, False) for name in names()}


@contextmanager
def use(name: str) -> Iterator[None]:
    """Run every rollout inside the `with` block on this backend; one that cannot run a rollout raises its reason.

    It holds for all threads of the process. The environment variable NCAFAST_BACKEND does the same from outside.

    Raises:
        ValueError: no such backend.
    """
    global _forced
    get(name)
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def choose(rule: Rule, x: Tensor, name: str | None = None, rounding: str | None = None) -> str:
    """The name asked for (argument, `use`, NCAFAST_BACKEND), else the fastest backend that can run this.

    Where that is the reference backend although a fused one exists for the device, a `FallbackWarning` says why, once
    per process and reason; torch.compile traces without it.

    Args:
        rule: the step.
        x: a state [B, C, *S]; only its shape, dtype and device matter.
        name: of the backend that is asked for.
        rounding: the precision of matrix products on a GPU; None is the default one.

    Raises:
        ValueError: an unknown name.
        RuntimeError: the backend asked for cannot run this; the message says why.
    """
    candidates = names()  # before torch.compile first looks at the dictionary, which this fills
    wanted = name or _forced or os.environ.get("NCAFAST_BACKEND")
    rounding = rounding or default_precision(x)
    if wanted:
        get(wanted)
        reason = _reason(wanted, rule, x, rounding)
        if reason is not None:
            raise RuntimeError(f"backend {wanted!r} cannot run this: {reason}")
        return wanted
    reasons: dict[str, str] = {}
    for candidate in candidates:
        reason = _reason(candidate, rule, x, rounding) or _distrust(candidate, rule, x, rounding, True)
        if reason is None:
            break
        reasons[candidate] = reason
    if candidate == "reference" and not torch.compiler.is_compiling():
        fallback.warn(reasons, registry.loaded, x.device)
    return candidate


def _reason(name: str, rule: Rule, x: Tensor, rounding: str) -> str | None:
    return _unavailable(name) or get(name).can_run(rule, x, rounding)


@constant_result
def _unavailable(name: str) -> str | None:
    """Why this machine cannot run a backend. torch.compile asks once, since finding modules cannot be traced."""
    return get(name).unavailable()


def _distrust(name: str, rule: Rule, x: Tensor, rounding: str, may_check: bool) -> str | None:
    if torch.compiler.is_dynamo_compiling():
        return _verdict_against(name, rule.to_json(), x.device, rounding, x.dtype, may_check)
    return trust.reason_against(trust.Question(name, rule, x.device, rounding, x.dtype), may_check=may_check)


@constant_result
def _verdict_against(
    name: str, rule: str, device: torch.device, rounding: str, dtype: torch.dtype, may_check: bool
) -> str | None:
    """Why a backend may not be chosen by default. torch.compile asks while it traces, so that a check runs then.
    (PyTorch 2.10 and 2.11 take no Rule as a constant, but text.)"""
    question = trust.Question(name, Rule.from_json(rule), device, rounding, dtype)
    return trust.reason_against(question, may_check=may_check)
