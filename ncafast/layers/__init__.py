"""What torch's layers compute, as fields and tensors of a Rule, read anew whenever a model runs.

A rollout takes the tensors of a model's layers and calls none of them. What a call would do beside that must therefore
be in the Rule, or be refused: with another padding, another norm or a hook the result would be wrong without a word.

Reading is plain code that torch.compile traces, so that its guards notice a change. Building a Rule it cannot trace, so
that is a function of what was read.
"""

from ncafast.layers.calls import check_call, ignore_hooks
from ncafast.layers.derive import derive
from ncafast.layers.settings import CONV, Dense, Layers, activation, conv, linear, norm, norm_layer
from ncafast.layers.statistics import collects, follow
from ncafast.layers.tensors import bias, filters, matrix, norm_tensors

__all__ = [
    "CONV",
    "Dense",
    "Layers",
    "activation",
    "bias",
    "check_call",
    "conv",
    "derive",
    "filters",
    "collects",
    "follow",
    "ignore_hooks",
    "linear",
    "matrix",
    "norm",
    "norm_layer",
    "norm_tensors",
]
