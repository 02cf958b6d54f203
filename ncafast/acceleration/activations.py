"""Activations that a rule may have, as they stand in a graph."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch.fx import Node

from ncafast.acceleration.errors import arguments, at_line, at_node, operation

_ACTIVATIONS = ("relu", "gelu", "elu", "silu", "tanh", "leaky_relu")
_UNTAGGED = {"_prelu_kernel": "PReLU", "log_sigmoid_forward": "logsigmoid", "hardswish": "hardswish"}  # not pointwise
_ARITHMETIC = ("add", "sub", "rsub", "mul", "div", "neg")


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


def why_no_activation(node: Node, moving: Container[Node]) -> str | None:
    """Why a function of each single value is none that a rule may have; None if it is no such function.

    Args:
        node: an operation.
        moving: the nodes that depend on the state.
    """
    name, args = operation(node), arguments(node)
    pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ()) or name in _UNTAGGED
    if not pointwise or name in _ARITHMETIC or len([n for n in node.all_input_nodes if n in moving]) != 1:
        return None
    if name == "gelu":
        return f"of GELU only the exact one is fused, not approximate='tanh': {at_node(node)}"
    if name == "elu":
        return f"of ELU only the one with alpha=1 is fused, and no SELU: {at_node(node)}"
    name = "ReLU6" if name == "hardtanh" and tuple(args[1:]) == (0, 6) else _UNTAGGED.get(name, name)
    return f"an activation that is not in a rule, which has {', '.join(_ACTIVATIONS)}: `{name}`{at_line(node)}"
