"""The inputs of the first layer, and what is added to its units, as one tensor of values per cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.allowed import JOINS
from ncafast.acceleration.errors import NotAccelerated, arguments, at_node, operation
from ncafast.acceleration.graph import VIEWS, StepGraph
from ncafast.acceleration.layers import Layer, Layers, hidden_before, pointwise_layers
from ncafast.acceleration.layout import Axes
from ncafast.acceleration.sample import Sample
from ncafast.acceleration.seen import Seen

_MOVES = VIEWS | {"cat", "stack"}


@dataclass
class Table:
    """Finds the values in the graph of any number of steps, on any grid."""

    seen: Seen
    count: int  # 1x1 layers of a step
    layers: Layers
    stub: bool = False  # whether nothing that depends on the state need be computed
    units: Axes | None = field(init=False)

    def __post_init__(self) -> None:
        first = self.layers.hidden[0]
        self.units = self.seen.grid.axes(first.node.meta["val"].shape) if first.conditions else None

    def steps(
        self, graph: StepGraph, sample: Sample, tensors: Sequence[Tensor], dtype: torch.dtype
    ) -> Iterator[Tensor]:
        """[B, P, *S], or [B, P + H, *S] where something is added to the units, of an empty state, for each step.

        Raises:
            NotAccelerated: the graph has other layers than the one that was measured.
        """
        batch, sizes = sample.grid.batch, sample.grid.sizes
        for first in self._firsts(graph, sample):
            node = self._node(first, sample)
            value: Tensor = graph.evaluate(node, self._feed(graph, node, dtype), tensors)
            found = [self.seen.axes.cells(value, batch, sizes)]
            if self.units is not None:
                shape = first.node.meta["val"].shape
                parts = [graph.evaluate(part, _zeros([graph.x], dtype), tensors) for part in first.conditions]
                added = torch.stack([part.expand(shape) for part in parts]).sum(0)
                found.append(self.units.cells(added, batch, sizes))
            yield torch.cat(found, 1)

    def is_constant(self, graph: StepGraph, sample: Sample) -> bool:
        """Whether no tensor of the module or the call is in the values."""
        behind: set[Node] = set()
        for first in self._firsts(graph, sample):
            node = self._node(first, sample)
            behind |= graph.ancestors(node, self._feed(graph, node, torch.float64))
            behind.update(*(graph.ancestors(part) for part in first.conditions))
        return behind.isdisjoint(graph.tensors)

    def outside(self, graph: StepGraph, sample: Sample) -> set[Node]:
        """What is put together with the state or added to units, and depends on no state."""
        found: set[Node] = set()
        for first in self._firsts(graph, sample):
            found |= set(first.conditions)
            for node in graph.ancestors(first.data):
                if node in graph.dependent and operation(node) in JOINS:
                    found |= {n for n in node.all_input_nodes if n not in graph.dependent}
        return found

    def mixes(self, graph: StepGraph) -> bool:
        """Whether the call's other tensors are in what depends on the state."""
        return any(graph.varies(edge) for edge in self._edges(graph, self.seen.node))

    def _firsts(self, graph: StepGraph, sample: Sample) -> Iterator[Layer]:
        """The first layer in each step."""
        layers = pointwise_layers(graph)
        if len(layers) != self.count * sample.steps:
            raise NotAccelerated(f"{sample.steps} steps have {len(layers)} linear layers, one has {self.count}")
        for last in layers[self.count - 1 :: self.count]:
            hidden = hidden_before(graph, last)
            if len(hidden) != len(self.layers.hidden) or bool(hidden[0].conditions) != (self.units is not None):
                raise NotAccelerated("a later step has other hidden layers than the first one")
            yield hidden[0]

    def _node(self, first: Layer, sample: Sample) -> Node:
        """The first layer's input in the layout that was measured, before it was flattened."""
        node, wanted = first.data, self.seen.shape_on(sample.grid.batch, sample.grid.sizes)
        while wanted is not None and list(node.meta["val"].shape) != wanted:
            if operation(node) not in VIEWS:
                raise NotAccelerated("the first layer's input is made by other views than in one step")
            node = arguments(node)[0]
        return node

    def _feed(self, graph: StepGraph, node: Node, dtype: torch.dtype) -> dict[Node, Tensor]:
        """Zeros for the state of this step or, in a stub, for all that depends on it."""
        return _zeros(self._edges(graph, node) if self.stub else self._states(graph, node), dtype)

    def _states(self, graph: StepGraph, node: Node) -> set[Node]:
        """The state that a step is given: what stands where the state stands in the step that was measured."""
        found, seen, todo = set(), set(), [(self.seen.node, node)]
        while todo:
            pair = todo.pop()
            mine, other = pair
            if mine is self.seen.state:
                found.add(other)
            elif pair not in seen and other in graph.dependent:
                seen.add(pair)
                views = [operation(n) in VIEWS for n in pair]
                if views[0] != views[1]:
                    todo.append((arguments(mine)[0], other) if views[0] else (mine, arguments(other)[0]))
                elif operation(mine) == operation(other) or all(views):
                    todo += zip(mine.all_input_nodes, other.all_input_nodes, strict=False)
                else:
                    raise NotAccelerated(f"a later step has another perception than the first one: {at_node(other)}")
        return found

    def _edges(self, graph: StepGraph, node: Node) -> list[Node]:
        """What depends on the state and is put together with what does not."""
        found, todo = [], [node]
        while todo:
            node = todo.pop()
            if node in graph.dependent and operation(node) in _MOVES:
                todo += node.all_input_nodes
            elif node in graph.dependent:
                found.append(node)
        return found


def _zeros(nodes: Iterable[Node], dtype: torch.dtype) -> dict[Node, Tensor]:
    values = {node: node.meta["val"] for node in nodes}
    return {node: torch.zeros((), dtype=dtype, device=t.device).expand(t.shape) for node, t in values.items()}
