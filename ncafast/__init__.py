"""ncafast: fast neural cellular automata for PyTorch. A whole rollout is one operator, forward and backward."""

from ncafast import interrupt  # before torch, whose import takes seconds

# isort: split
from ncafast import backends, filters, models
from ncafast.backends import FallbackWarning
from ncafast.checkpoint import load, save
from ncafast.functional import fire_mask, rollout
from ncafast.layers import ignore_hooks
from ncafast.nca import NCA
from ncafast.rule import Alive, Rule
from ncafast.settling import Settled, settle

interrupt.release()

__all__ = [
    "NCA",
    "Alive",
    "FallbackWarning",
    "Rule",
    "Settled",
    "backends",
    "filters",
    "fire_mask",
    "ignore_hooks",
    "load",
    "models",
    "rollout",
    "save",
    "settle",
]
