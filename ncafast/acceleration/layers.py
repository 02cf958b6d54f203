"""The 1x1 layers of a step, found in its graph: hidden layers with norm and activation, and the last layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.activations import activation_of, isactivation_of, why_no_activation
from ncafast.acceleration.errors import NotAccelerated, arguments, at_node, operation
from ncafast.acceleration.graph import GETITEM, VIEWS, StepGraph, source
from ncafast.acceleration.norms import Norm, is_norm, norm_at
from ncafast.acceleration.units import Drop, drop_at

NO_LAYER = "no linear layer over the channels"


@dataclass
class Layer:
    """A linear layer over the channels of each cell."""

    node: Node  # its result
    mix: Node  # the product or convolution, without a bias that is added by itself
    data: Node
    weight: Node
    bias: Node | None
    axis: int  # of the channels in its result
    inputs_last: bool  # whether the weight is [out, in]
    norm: Node | None = None
    activation: tuple[str, float] = ("identity", 0.0)
    drop: Drop | None = None  # behind the activation
    conditions: list[Node] = field(default_factory=list)  # added to the units, not one number for each alone

    @property
    def width(self) -> int:
        """How many channels it gives."""
        return int(self.mix.meta["val"].shape[self.axis])


@dataclass
class Layers:
    """All 1x1 layers in order; the last one gives the update."""

    hidden: list[Layer]
    update: Layer
    perception_activations: list[Node]

    @property
    def drops(self) -> list[Drop | None]:
        """Dropout of the hidden layers."""
        return [layer.drop for layer in self.hidden]

    @property
    def drawn(self) -> set[Node]:
        """The random numbers of these."""
        return {drop.drawn for drop in self.drops if drop is not None}

    def nodes(self) -> set[Node]:
        """The nodes that are these layers."""
        return {node for layer in (*self.hidden, self.update) for node in (layer.node, layer.mix)}


def find_layers(graph: StepGraph) -> Layers:
    """Walk back from the last linear layer, over activations and norms.

    Raises:
        NotAccelerated: there is no such chain, or something that the step does not have stands in it.
    """
    mixes = pointwise_layers(graph)
    if not mixes:
        raise NotAccelerated(f"{NO_LAYER} (1x1 convolution or nn.Linear) is in its step")
    update = mixes[-1]
    hidden = hidden_before(graph, update)
    first = hidden[0] if hidden else update
    if not hidden:
        before = source(update.data)
        if isactivation_of(before):
            before = source(arguments(before)[0])
        if before.target is GETITEM:
            before = arguments(before)[0]
        raise NotAccelerated(
            why_no_activation(before, graph.dependent)
            or f"no 1x1 hidden layer with an activation stands before the last layer, but {at_node(before)}"
        )
    _take_bias(graph, update)
    seen = graph.ancestors(first.data)
    ours = {part.mix for part in (*hidden, update)}
    for other in mixes:
        if other.mix not in ours and other.mix not in seen:
            raise NotAccelerated(
                f"a linear layer stands beside the hidden layers and the last one: {at_node(other.mix)}"
            )
    acts = [node for node in graph.nodes if node in seen and node in graph.dependent and isactivation_of(node)]
    return Layers(hidden, update, acts)


def pointwise_layers(graph: StepGraph) -> list[Layer]:
    """All linear layers over channels, in the order in which they run."""
    return [mix for node in graph.nodes if node in graph.used and (mix := pointwise(graph, node)) is not None]


def hidden_before(graph: StepGraph, update: Layer) -> list[Layer]:
    """The hidden layers before a last layer, first to last."""
    hidden: list[Layer] = []
    while (found := _layer_before(graph, hidden[0] if hidden else update)) is not None:
        hidden.insert(0, found)
    for layer in hidden[1:]:
        if layer.conditions:
            raise NotAccelerated(
                f"what is added to a later hidden layer is not one number per unit: {at_node(layer.node)}"
            )
    return hidden


def pointwise(graph: StepGraph, node: Node) -> Layer | None:
    """The node as a linear layer over channels, or None."""
    name, args = operation(node), arguments(node)
    if node not in graph.dependent:
        return None
    if name == "convolution":
        same = (
            set(args[1].meta["val"].shape[2:]) == {1} and args[8] == 1 and set(args[3]) == {1} and set(args[4]) == {0}
        )
        fixed = args[1] not in graph.dependent and not args[6]
        return Layer(node, node, args[0], args[1], args[2], 1, True) if same and fixed else None
    if name not in ("mm", "bmm", "addmm"):
        return None
    bias = args[0] if name == "addmm" else None
    left, right = args[-2:]
    if bias in graph.dependent or node.kwargs:
        return None
    if left in graph.dependent and right not in graph.dependent:
        return Layer(node, node, left, right, bias, -1, False)
    if right in graph.dependent and left not in graph.dependent and bias is None:
        return Layer(node, node, right, left, None, -2, True)
    return None


def weight_of(layer: Layer, graph: StepGraph, tensors: Sequence[Tensor]) -> Tensor:
    """[out, in] of a layer."""
    weight = graph.evaluate(layer.weight, {}, tensors)
    if operation(layer.mix) == "convolution":
        return weight.flatten(1)
    if operation(layer.mix) == "bmm":
        weight = weight[0]
    return weight if layer.inputs_last else weight.T


def _layer_before(graph: StepGraph, layer: Layer) -> Layer | None:
    """The hidden layer whose activation a layer takes, or None where the perception begins."""
    act, drop = drop_at(graph, source(layer.data))
    kind = activation_of(act)
    if kind is None:
        return None
    node, norm = source(arguments(act)[0]), None
    if node.target is GETITEM and is_norm(arguments(node)[0]):
        norm = arguments(node)[0]
        node = source(arguments(norm)[0])
    total, added = node, list[Node]()
    while (found := pointwise(graph, node)) is None:
        if operation(node) != "add" or node.kwargs:
            return None
        parts: tuple[Any, Any] = arguments(node)[:2]
        fixed = [part for part in parts if isinstance(part, Node) and part not in graph.dependent]
        if not fixed:
            return None
        added.append(fixed[0])
        node = source(next(part for part in parts if part is not fixed[0]))
    for part in added:
        if found.bias is None and _is_bias(graph, part, found):
            found.bias = part
        else:
            found.conditions.append(part)
    found.node, found.norm, found.activation, found.drop = total, norm, kind, drop
    return found


def _is_bias(graph: StepGraph, part: Node, layer: Layer) -> bool:
    """Whether what is added is a tensor of the module with one number for each unit."""
    units = layer.mix.meta["val"].shape[layer.axis]
    while operation(part) in VIEWS or operation(part) in ("slice", "expand"):
        part = arguments(part)[0]
    return part.op != "call_function" and part not in graph.given and part.meta["val"].numel() == units


def _take_bias(graph: StepGraph, update: Layer) -> None:
    """The last layer's bias, where it is added by itself: nn.Linear does so on inputs that are not contiguous."""
    users = [
        node for node in graph.nodes if node in graph.used and source(node) is update.mix and node is not update.mix
    ]
    for add in (node for node in graph.nodes if node in graph.used and operation(node) == "add" and not node.kwargs):
        fixed = [part for part in arguments(add) if isinstance(part, Node) and part not in graph.dependent]
        moving = [part for part in arguments(add) if part in users or part is update.mix]
        if (
            fixed
            and moving
            and update.bias is None
            and not graph.varies(fixed[0])
            and _by_channel(fixed[0], add, update)
        ):
            update.bias, update.node = fixed[0], add


def _by_channel(bias: Node, total: Node, layer: Layer) -> bool:
    """Whether a bias is one number per channel, as the layer's result has its channels."""
    shape, result = list(bias.meta["val"].shape), list(total.meta["val"].shape)
    wanted = [1] * len(result)
    wanted[layer.axis] = layer.width
    return layer.width == result[layer.axis] and [1] * (len(result) - len(shape)) + shape == wanted


def norm_of(layers: Layers, graph: StepGraph) -> Norm:
    """The norm of the hidden layers.

    Raises:
        NotAccelerated: they differ, or it normalises something else than the hidden units.
    """
    kinds = {norm_at(graph, layer.norm, layer.width) for layer in layers.hidden}
    if len(kinds) > 1:
        raise NotAccelerated("the hidden layers have different norms")
    return kinds.pop()


def fill(node: Node, value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """A tensor of a node's shape with one value."""
    like = node.meta["val"]
    return torch.full(like.shape, float(value), dtype=dtype, device=like.device)
