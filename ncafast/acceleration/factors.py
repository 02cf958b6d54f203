"""Factors of a step that are not the same on every grid or in every step: 1 / steps, 1 - step / steps, 1 / width."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.fx import Node

from ncafast.acceleration.errors import NotAccelerated, at_node
from ncafast.acceleration.graph import StepGraph, factors
from ncafast.acceleration.sample import Sample

_FEW = 3  # steps: a factor of one step alone may be that of the first, and of the last


def changing_factor(twin: nn.Module, sample: Sample) -> str | None:
    """The line with a factor that depends on the grid or the steps; None if there is none, or no trace to look in.

    Args:
        twin: a copy of the user's module in float64.
        sample: a call of one step.
    """
    try:
        one = _factors(sample.traced(twin))
        for other, what in _others(sample):
            for place, found in _factors(other.traced(twin)).items():
                if place in one and found != one[place]:
                    return f"a factor depends on {what}, in a rule it is one number: {place}"
    except NotAccelerated:
        pass  # a module that has an adapter may be one that cannot be traced
    return None


def _others(sample: Sample) -> Iterator[tuple[Sample, str]]:
    yield sample.elsewhere(), "the size of the grid or the batch"
    if sample.entry.steps is not None:
        few = sample.on(sample.grid.batch, sample.grid.sizes, _FEW, sample.rest)
        yield few, f"the number of steps, `{sample.entry.steps}`, or on which of them it is"


def _factors(graph: StepGraph) -> Mapping[str, set[float]]:
    """The numbers by which a step changes what depends on the state, by the operation and its line."""
    found: dict[str, set[float]] = defaultdict(set)
    for node in graph.nodes:
        if node in graph.used and node in graph.dependent and node.op == "call_function":
            found[at_node(node)] |= {*factors(node.target, node.args, node.kwargs), *_constants(graph, node)}
    return found


def _constants(graph: StepGraph, node: Node) -> Iterator[float]:
    """Numbers that the user's code made tensors of."""
    for other in (behind for n in node.all_input_nodes if n not in graph.dependent for behind in graph.ancestors(n)):
        value = getattr(graph.module, str(other.target)) if other.op == "get_attr" else None
        if isinstance(value, Tensor) and value.numel() == 1:
            yield float(value)
