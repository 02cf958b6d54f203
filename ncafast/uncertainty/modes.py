"""A module that drops units as in training while it is measured, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from ncafast.evaluating import evaluating
from ncafast.nca import NCA


@contextmanager
def dropping(model: nn.Module) -> Iterator[None]:
    """Inside, a module is in evaluation mode, but units are dropped as in training.

    Raises:
        ValueError: it drops nothing in training either.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module, whose dropout can be switched on, got {type(model).__name__}"
        )
    parts = [module for module in model.modules() if _drops(module)]
    if not parts:
        raise ValueError(
            f"{type(model).__name__} has no dropout: build it with hidden_dropout= or torch.nn.Dropout, or use nqm, "
            "which needs none"
        )
    with evaluating(model):
        for module in parts:
            module.training = True
        yield


def _drops(module: nn.Module) -> bool:
    if isinstance(module, NCA):
        return module.rule.hidden_dropout > 0
    return isinstance(module, _DropoutNd) and module.p > 0
