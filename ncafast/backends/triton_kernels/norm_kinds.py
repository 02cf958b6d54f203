"""Which norms have kernels of their own, and what they keep for backward. Knows no Triton."""

from __future__ import annotations

from ncafast.backends.triton_kernels import sizes
from ncafast.rule import Rule

# What kernels do between a hidden layer and its activation; batch and running norms are folded into the layer.
KINDS = {"none": "none", "batch": "none", "running": "none", "group": "group", "instance": "group", "layer": "layer"}


def statistics_bytes(rule: Rule, batch: int) -> int:
    """Bytes of a step's means and deviations of groups on the tape: [2, B, HP] in float32."""
    return 8 * batch * sizes.padded(max(rule.hidden)) if KINDS[rule.norm] == "group" else 0
