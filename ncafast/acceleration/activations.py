"""Activations that a rule may have, as they stand in a graph."""

from __future__ import annotations

from torch.fx import Node

from ncafast.acceleration.errors import arguments, operation

_ACTIVATIONS = ("relu", "gelu", "elu", "silu", "tanh", "leaky_relu")


def isactivation_of(node: Node) -> bool:
    """Whether the node is an activation that a rule may have."""
    return activation_of(node) is not None


def activation_of(node: Node) -> tuple[str, float] | None:
    """(name, slope of leaky_relu) of an activation that a rule may have, else None."""
    name, args = operation(node), arguments(node)
    if name == "leaky_relu":
        return name, float(args[1]) if len(args) > 1 else 0.01
    if name == "elu":
        return (name, 0.0) if all(float(scale) == 1 for scale in args[1:]) else None
    if name == "gelu":
        return (name, 0.0) if node.kwargs.get("approximate", "none") == "none" else None
    if (name == "clamp_min" and args[1] == 0) or (name == "clamp" and tuple(args[1:]) in ((0,), (0, None))):
        return "relu", 0.0
    return (name, 0.0) if name in _ACTIVATIONS else None
