"""What may stand in a step: linear operations around the layers, and an alive mask. Anything else is named and refused.

Values are measured on a few states only, so an operation that shows on others alone (a clamp, a modulo) must be found
by its name.
"""

from __future__ import annotations

from torch.fx import Node

from ncafast.acceleration.behind import Behind
from ncafast.acceleration.errors import NotAccelerated, arguments, at_node, operation
from ncafast.acceleration.graph import GETITEM, VIEWS, StepGraph
from ncafast.acceleration.layers import Layers
from ncafast.acceleration.norms import is_norm

_MOVES = VIEWS | {
    *("cat", "stack", "slice", "select", "index_select", "slice_scatter", "select_scatter", "copy_", "copy", "roll"),
    *("flip", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d"),
    *("replication_pad2d", "replication_pad3d", "pad", "im2col", "unfold", "split", "split_with_sizes", "unbind"),
    *("fill", "zero", "unsafe_split", "chunk", "as_strided"),
}
_LINEAR = _MOVES | {"add", "sub", "rsub", "neg", "sum", "mean", "convolution"}
JOINS = ("cat", "stack", "add", "sub", "rsub")
_PRODUCTS = ("mul", "div", "mm", "bmm", "addmm")
_COMPARISONS = ("gt", "lt")
_LOGIC = ("bitwise_and", "logical_and", "__and__", "bitwise_not", "logical_not")
_CHOICES = {"where": 0, "masked_fill": 1}  # operation -> which argument is the mask
POOLS = ("max_pool2d_with_indices", "max_pool3d_with_indices")
_WORDS = {
    "clamp": "only the state after the update may be clamped",
    "tanh": "tanh is only in a rule behind a layer",
    "sigmoid": "a gate is not in a rule",
    "_softmax": "attention is not in a rule",
    "native_dropout": "dropout on units is not in a rule",
    "ge": ">= is not in a rule, an alive mask uses >",
    "le": "<= is not in a rule, an alive mask uses >",
}


def check_operations(graph: StepGraph, layers: Layers, behind: Behind) -> None:
    """Refuse a step with an operation that a rule does not have.

    Raises:
        NotAccelerated: naming it and its line.
    """
    _check_given(graph, layers)
    known = layers.nodes() | set(layers.perception_activations) | _between(graph, layers) | behind.nodes
    living: set[Node] = set()  # computed from the pooled state
    for node in graph.nodes:
        if node not in graph.used or node not in graph.dependent or node in known or node.op == "placeholder":
            continue
        name, inputs = operation(node), [n for n in node.all_input_nodes if n in graph.dependent]
        pooled = bool(living.intersection(inputs))
        if name in POOLS or (
            pooled and (name in _LOGIC or name in _COMPARISONS or node.target is GETITEM or name in VIEWS)
        ):
            living.add(node)
        elif name in _PRODUCTS:
            _check_product(node, inputs, living, graph)
            if pooled and set(inputs) <= living:
                living.add(node)
        elif name in _CHOICES:
            mask = arguments(node)[_CHOICES[name]]
            if mask in graph.dependent and mask not in living:
                raise NotAccelerated(f"a choice by the state is not in a rule: {at_node(node)}")
        elif name in _COMPARISONS:
            raise NotAccelerated(f"values of the state are compared without a max pool: {at_node(node)}")
        elif is_norm(node):
            raise NotAccelerated(f"only the hidden units before their activation may be normalised: {at_node(node)}")
        elif name not in _LINEAR and node.target is not GETITEM:
            raise NotAccelerated(f"{_WORDS.get(name, 'this operation is not in a rule')}: {at_node(node)}")


def _check_given(graph: StepGraph, layers: Layers) -> None:
    """Refuse arguments that enter a step elsewhere than in its perception or in its first hidden layer's units."""
    first = layers.hidden[0]
    seen, units = graph.ancestors(first.data), graph.ancestors(first.node)
    for node in graph.nodes:
        if node in graph.dependent and node in graph.used and graph.given:
            varies = any(n not in graph.dependent and graph.varies(n) for n in node.all_input_nodes)
            joins = operation(node) in JOINS if node in seen else operation(node) == "add" and node in units
            if varies and not joins:
                raise NotAccelerated(f"an argument enters where a rule takes none: {at_node(node)}")


def _between(graph: StepGraph, layers: Layers) -> set[Node]:
    """Activations and norms between the layers: the nodes from the first layer to the last."""
    first = layers.hidden[0].node
    inner = {node for node in graph.ancestors(layers.update.data) if node in graph.dependent}
    return {node for node in inner if node is not first and graph.depends(node, first)}


def _check_product(node: Node, inputs: list[Node], living: set[Node], graph: StepGraph) -> None:
    """A product of two things that depend on the state: one of them must be an alive mask."""
    moving = [n for n in inputs if n not in living]
    if operation(node) == "div" and arguments(node)[1] in graph.dependent:
        raise NotAccelerated(f"the state is divided by something that depends on it: {at_node(node)}")
    doubled = len(moving) == 1 and len(inputs) == 1 and list(arguments(node)).count(moving[0]) > 1
    if len(moving) > 1 or doubled:
        raise NotAccelerated(f"two things that depend on the state are multiplied, as in attention: {at_node(node)}")
