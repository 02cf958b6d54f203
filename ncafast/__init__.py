"""ncafast: fast neural cellular automata for PyTorch. A whole rollout is one operator, forward and backward."""

from ncafast import interrupt  # before all that takes time

# isort: split
import importlib
import sys
from typing import TYPE_CHECKING, Any

from ncafast.versions import version as _version

__version__ = _version()

if TYPE_CHECKING:
    from ncafast.acceleration import Adapted, NotAccelerated, accelerate, accelerated, adapter, explain, restore, to_nca
    from ncafast.public import *

_ACCELERATION = ("Adapted", "NotAccelerated", "accelerate", "accelerated", "adapter", "explain", "restore", "to_nca")


def _complete() -> None:
    """Import PyTorch, the operators and every public name but those of `_ACCELERATION`."""
    public = importlib.import_module("ncafast.public")
    globals().update({name: getattr(public, name) for name in __all__ if name not in _ACCELERATION})


def __getattr__(name: str) -> Any:
    """Load `accelerate` and its companions when they are first asked for: tracing takes torch.fx, which is slow."""
    if name in _ACCELERATION:
        return getattr(importlib.import_module("ncafast.acceleration"), name)
    if name in __all__ and "ncafast.public" not in sys.modules:
        _complete()
        return globals()[name]
    raise AttributeError(f"module 'ncafast' has no attribute {name!r}")


__all__ = [
    "NCA",
    "Adapted",
    "Alive",
    "Convergence",
    "FallbackWarning",
    "NotAccelerated",
    "Prediction",
    "Rule",
    "Settled",
    "SettledSamples",
    "accelerate",
    "accelerated",
    "adapter",
    "backends",
    "explain",
    "filters",
    "finetune",
    "fire_mask",
    "heads",
    "ignore_hooks",
    "load",
    "losses",
    "models",
    "num_trainable_parameters",
    "pad_input",
    "perception",
    "restore",
    "rollout",
    "save",
    "settle",
    "to_nca",
    "uncertainty",
]

if not interrupt.is_command():  # the command does so once it knows that it needs PyTorch; --help does not
    _complete()
