"""ncafast: fast neural cellular automata for PyTorch. A whole rollout is one operator, forward and backward."""

import importlib
from typing import TYPE_CHECKING, Any

from ncafast import interrupt  # before torch, whose import takes seconds

# isort: split
from ncafast import backends, filters, heads, losses, models, uncertainty
from ncafast.backends import FallbackWarning
from ncafast.checkpoint import load, save
from ncafast.convergence import Convergence, Settled, SettledSamples
from ncafast.finetuning import finetune, num_trainable_parameters
from ncafast.functional import fire_mask, rollout
from ncafast.layers import ignore_hooks
from ncafast.nca import NCA
from ncafast.padding import pad_input
from ncafast.perception import perception
from ncafast.prediction import Prediction
from ncafast.rule import Alive, Rule
from ncafast.settling import settle

interrupt.release()

if TYPE_CHECKING:
    from ncafast.acceleration import Adapted, NotAccelerated, accelerate, accelerated, adapter, explain, restore

_ACCELERATION = ("Adapted", "NotAccelerated", "accelerate", "accelerated", "adapter", "explain", "restore")


def __getattr__(name: str) -> Any:
    """Load `accelerate` and its companions when they are first asked for: tracing takes torch.fx, which is slow."""
    if name not in _ACCELERATION:
        raise AttributeError(f"module 'ncafast' has no attribute {name!r}")
    return getattr(importlib.import_module("ncafast.acceleration"), name)


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
    "uncertainty",
]
