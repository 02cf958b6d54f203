"""What is not linear behind the last layer: an activation of the update, and a clamp of the state. Found by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.activations import activation_of
from ncafast.acceleration.errors import NotAccelerated, arguments, at_node, operation
from ncafast.acceleration.graph import StepGraph, source
from ncafast.acceleration.layers import Layers
from ncafast.rule import Rule

_CLAMPS = {"clamp": (1, 2), "clip": (1, 2), "hardtanh": (1, 2), "clamp_min": (1, None), "clamp_max": (None, 1)}
Limits = tuple[float | None, float | None]


@dataclass(frozen=True)
class Behind:
    """Nodes that are measured around."""

    update: Node  # the last layer's result, after its activation where it has one
    axis: int  # of the channels in that
    activation: str = "identity"
    clamps: tuple[Node, ...] = ()
    clamp: Limits | None = None

    @property
    def nodes(self) -> set[Node]:
        """The activation and the clamps."""
        return {self.update, *self.clamps}


def find_behind(graph: StepGraph, layers: Layers) -> Behind:
    """Look for both.

    Raises:
        NotAccelerated: limits of a clamp are no numbers, or contradict each other.
    """
    last, name, axis = layers.update.node, "identity", layers.update.axis
    moving = [node for node in graph.nodes if node in graph.used and node in graph.dependent]
    acts = [node for node in moving if (activation_of(node) or ("leaky_relu",))[0] != "leaky_relu"]
    for node in acts:
        if source(arguments(node)[0]) is layers.update.node:
            kind = activation_of(node)
            assert kind is not None
            last, name, axis = node, kind[0], _axis(node, layers.update.width)
    after = [node for node in moving if operation(node) in _CLAMPS and node is not last and graph.depends(node, last)]
    clamp: Limits | None = None
    for node in after:
        clamp = _narrowed(clamp, _limits(node), node)
    return Behind(last, axis, name, tuple(after), clamp)


def _axis(node: Node, width: int) -> int:
    """The channels of an activation, which may stand behind a view of the last layer's result."""
    found = [axis for axis, size in enumerate(node.meta["val"].shape) if size == width]
    if len(found) != 1:
        raise NotAccelerated(f"the channels of the update's activation cannot be told from its cells: {at_node(node)}")
    return found[0]


def _limits(node: Node) -> Limits:
    args: tuple[Any, ...] = (*arguments(node), None, None)
    lo, hi = (None if place is None else args[place] for place in _CLAMPS[operation(node)])
    if operation(node) == "hardtanh":
        lo, hi = (-1.0 if lo is None else lo), (1.0 if hi is None else hi)
    if any(isinstance(side, Node) for side in (lo, hi)):
        raise NotAccelerated(f"the state is clamped to a tensor, a rule has two numbers: {at_node(node)}")
    return (None if lo is None else float(lo), None if hi is None else float(hi))


def _narrowed(one: Limits | None, other: Limits, node: Node) -> Limits:
    """The limits of two clamps in turn."""
    los = [side for side in ((one or (None, None))[0], other[0]) if side is not None]
    his = [side for side in ((one or (None, None))[1], other[1]) if side is not None]
    lo, hi = max(los, default=None), min(his, default=None)
    if lo is not None and hi is not None and lo > hi:
        raise NotAccelerated(f"the limits of a clamp contradict each other: {at_node(node)}")
    return lo, hi


def reaching(rule: Rule, x: Tensor) -> Tensor:
    """A random state as large as a rule's clamp takes to show."""
    limits = [abs(side) for side in rule.clamp or () if side is not None]
    return x * 2 * max(1.0, *limits) if limits else x
