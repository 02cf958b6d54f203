"""What a method returns beside the next state, such as a head's result: the user's own graph computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ncafast.acceleration.errors import NotAccelerated, at_node, operation
from ncafast.acceleration.firing import RANDOM
from ncafast.acceleration.given import tensors_in
from ncafast.acceleration.graph import StepGraph, named_tensors
from ncafast.acceleration.layers import Layers
from ncafast.acceleration.sample import Graphs, Sample


@dataclass
class Results:
    """How the other results follow from the state before and after."""

    sample: Sample
    graphs: Graphs

    def of(self, module: nn.Module, sample: Sample, x: Tensor, new: Tensor) -> Any:
        """All that the method returns, for a state and the next one, both in the user's layout."""
        graph = self.graphs.of(module, sample)
        tensors = [*named_tensors(module).values(), *tensors_in(sample.rest)]
        feed = {graph.x: x, graph.out: new}
        return graph.rebuild([new if node is graph.out else graph.evaluate(node, feed, tensors) for node in graph.outs])


def find_results(graph: StepGraph, layers: Layers, sample: Sample) -> Results | None:
    """How a step's other results are computed, or None if it returns the next state alone.

    Raises:
        NotAccelerated: from more than the state before and after.
    """
    if graph.plain:
        return None
    inner = layers.nodes()
    for node in graph.outs:
        behind = graph.ancestors(node, {graph.x: None, graph.out: None})
        if node is not graph.out and any(n in inner or operation(n) in RANDOM for n in behind):
            raise NotAccelerated(f"a result beside the state is computed inside the step: {at_node(node)}")
    return Results(sample, Graphs({sample.key: graph}))
