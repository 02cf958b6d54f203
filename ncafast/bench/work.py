"""The arithmetic and the memory traffic that a rule cannot avoid: what achieved rates are counted from.

Counted per cell and step: a multiply-add is two operations. Only cells that fire and whose update an alive mask lets
through take part in the MLP and in a dense perception; depthwise filters count for every cell; batch statistics come
from the mean and the second moment of the perception, not from a pass over the hidden layer. Activations, masks and the
residual add are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ncafast.backends.fusable import MEASURED_NORMS
from ncafast.rule import Rule

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Work:
    """Operations and bytes per cell and step."""

    flop: float
    bytes: float

    def floor(self, flops: float, bandwidth: float) -> float:
        """Least seconds per cell and step on a machine of so many operations and bytes per second."""
        return max(self.flop / flops, self.bytes / bandwidth)


def forward(rule: Rule) -> Work:
    """One step; its state is read and written once."""
    mlp = 2.0 * rule.fire_rate * _macs(rule)
    return Work(mlp + _perception(rule) + _moments(rule), 2.0 * FLOAT * rule.channels)


def train(rule: Rule, learned_filters: bool) -> Work:
    """One step and its backward, which reads the state and the gradient and writes the gradient.

    Backward computes perception and hidden layers again, then for every layer the gradients of weights and of inputs.
    """
    ahead = forward(rule)
    macs = _macs(rule)
    last = rule.hidden[-1] * (rule.hi - rule.lo)
    mlp = 2.0 * rule.fire_rate * ((macs - last) + 2 * macs)
    perception = _perception(rule) * (3 if learned_filters else 2)
    moments = 2.0 * rule.perception_size**2 if rule.norm in MEASURED_NORMS else 0.0
    return Work(ahead.flop + mlp + perception + moments, ahead.bytes + 3.0 * FLOAT * rule.channels)


def eager_bytes(rule: Rule, training: bool) -> float:
    """About what plain PyTorch holds per cell (and per step in training): to foresee that memory will not do."""
    tensors = rule.perception_size + 3 * sum(rule.hidden) + 4 * rule.channels
    return float(FLOAT * tensors * (1.2 if training else 1.0))


def _macs(rule: Rule) -> int:
    """Multiply-adds of the layers."""
    widths = (rule.perception_size, *rule.hidden, rule.hi - rule.lo)
    return sum(n * m for n, m in zip(widths[:-1], widths[1:], strict=True))


def _perception(rule: Rule) -> float:
    taps = math.prod(rule.kernel_size)
    if rule.perception == "dense":
        return 2.0 * rule.fire_rate * rule.channels * rule.dense_channels * taps
    return 2.0 * rule.num_filters * rule.channels * taps


def _moments(rule: Rule) -> float:
    """Mean and the upper half of the second moment."""
    p = rule.perception_size
    return float(p * (p + 1)) if rule.norm in MEASURED_NORMS else 0.0
