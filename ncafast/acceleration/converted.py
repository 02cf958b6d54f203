"""An accelerated module's steps as an `NCA`, which needs none of the module's own code."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ncafast.acceleration.graph import named_tensors
from ncafast.acceleration.patch import Accelerated
from ncafast.nca import NCA


def to_nca(model: nn.Module) -> NCA:
    """An `NCA` that runs the steps of an accelerated module, with a copy of its present parameters.

    It can be saved, loaded and exported without the module's code. Its states are [B, C, *S], also where the module's
    are [B, *S, C]. It does what the module does in its present mode, `model.train()` or `model.eval()`; filters that
    the module does not learn stay fixed. The number of steps of a call that names none is the module's own default.
    The module stays as it is.

    Args:
        model: a module that `ncafast.accelerate` returned, and that steps as a whole; or such a part of one.

    Returns:
        A new module on the same device, in the same dtype.

    Raises:
        TypeError: not a module.
        ValueError: it is not accelerated, only parts of it are (they are named), or its steps see more than the state,
            which an NCA is given as extra= and cannot compute.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    patch = _patch(model)
    if needed := patch.entry.needs:
        raise ValueError(f"{_named(model, patch)} takes {', '.join(needed)} beside the state, which no NCA does")
    match = patch.find()
    if isinstance(match, str):
        raise ValueError(f"{_named(model, patch)} cannot become an NCA as it is now: {match}")
    if match.extra is not None:
        raise ValueError(
            f"{_named(model, patch)} sees {match.rule.extra} channels beside the state, which its own code computes; "
            "an NCA takes them as extra= of each call, so build one with NCA.from_rule and give them"
        )
    if match.results is not None:
        warnings.warn(f"{_named(model, patch)} returns more than the state; the NCA returns the state", stacklevel=2)
    with torch.enable_grad():  # which tensors a parameter reaches says what is learned
        found = match.parameters(list(named_tensors(model).values()))
    tensors = {name: tensor.detach() for name, tensor in found.items()}
    fixed = "perceive.weight" in found and not found["perceive.weight"].requires_grad
    filters: Any = tensors["perceive.weight"] if fixed else "learned"
    nca = NCA.from_rule(match.rule, filters=filters, zero_init=False, **_steps(patch))
    nca.to(next(iter(tensors.values()))).load_state_dict(tensors)
    return nca.train(model.training)


def _patch(model: nn.Module) -> Accelerated:
    """What `accelerate` put in the place of the model's method."""
    found = [(name, patch) for name, part in model.named_modules() for patch in _patches(part)]
    if not found:
        raise ValueError(f"this {type(model).__name__} is not accelerated; call ncafast.accelerate(model) first")
    whole = [patch for name, patch in found if not name]
    if not whole:
        parts = ", ".join(f"to_nca(model.{name})" for name, _ in found)
        raise ValueError(f"only parts of this {type(model).__name__} step an automaton; give one of them: {parts}")
    return whole[0]


def _patches(module: nn.Module) -> Iterator[Accelerated]:
    return (value for value in vars(module).values() if isinstance(value, Accelerated))


def _named(model: nn.Module, patch: Accelerated) -> str:
    return f"{type(model).__name__}.{patch.entry.method}"


def _steps(patch: Accelerated) -> dict[str, int]:
    """The number of steps of a call that names none, where the module has one."""
    if patch.entry.steps is None:
        return {"steps": 1}
    default = inspect.signature(patch.original).parameters[patch.entry.steps].default
    return {"steps": default} if isinstance(default, int) and not isinstance(default, bool) else {}
