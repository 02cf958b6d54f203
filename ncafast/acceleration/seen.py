"""What the first layer sees of a state, measured: one unit of one channel in the middle of an empty grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.errors import NotAccelerated, arguments, at_node, operation
from ncafast.acceleration.graph import VIEWS, StepGraph
from ncafast.acceleration.layers import Layers
from ncafast.acceleration.layout import Axes, Grid

REACH = 3  # cells on each side that a filter of a rule may see
NOTHING = 1e-9  # responses below this are rounding


@dataclass
class Seen:
    """The first layer's input on probes."""

    node: Node
    state: Node  # that it is computed from
    axes: Axes
    grid: Grid
    skip: list[Node]  # activations of the perception, which its filters are measured without
    taps: Tensor  # [P, C, *7]
    hit: Tensor  # [P, C], whether a row sees a channel
    base: Tensor  # [B, P, *S], what is seen of an empty state

    def shape_on(self, batch: int, sizes: tuple[int, ...]) -> list[int] | None:
        """The node's shape for another batch and grid; None if it is flat."""
        if self.axes.flat is not None:
            return None
        shape = list(self.node.meta["val"].shape)
        for axis, length in zip((self.axes.order[0], *self.axes.order[-len(sizes) :]), (batch, *sizes), strict=True):
            shape[axis] = length
        return shape

    def of(self, graph: StepGraph, x: Tensor, tensors: Sequence[Tensor], skip: Sequence[Node]) -> Tensor:
        """[B, P, *S] for a state in the user's layout."""
        y: Tensor = graph.evaluate(self.node, {graph.x: x}, tensors, skip)
        return self.axes.cells(y, self.grid.batch, self.grid.sizes)

    def of_nothing(self, graph: StepGraph, tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """[B, P, *S] for an empty state."""
        like = graph.x.meta["val"]
        x = torch.zeros(like.shape, dtype=dtype, device=like.device)
        return self.of(graph, x, tensors, self.skip)

    def of_unit(self, graph: StepGraph, unit: list[int], tensors: Sequence[Tensor], base: Tensor) -> Tensor:  # [P, *S]
        """Response to a unit in the middle of those channels of the first sample."""
        grid, like = self.grid, graph.x.meta["val"]
        x = torch.zeros(grid.batch, grid.channels, *grid.sizes, dtype=base.dtype, device=like.device)
        place: tuple[Any, ...] = (0, unit, *(size // 2 for size in grid.sizes))
        x[place] = 1
        return self.of(graph, grid.outward(x), tensors, self.skip)[0] - base


def measure_seen(graph: StepGraph, layers: Layers, grid: Grid, tensors: Sequence[Tensor]) -> Seen:
    """Probe the perception with each channel.

    Raises:
        NotAccelerated: it sees further than a rule does.
    """
    node = found_node(graph, layers, grid)
    axes = grid.axes(node.meta["val"].shape)
    empty = torch.empty(0)
    seen = Seen(node, graph.x, axes, grid, layers.perception_activations, empty, empty, empty)
    base = seen.of_nothing(graph, tensors, torch.float64).detach()
    responses = torch.stack([seen.of_unit(graph, [c], tensors, base[0]) for c in range(grid.channels)], 1).detach()
    taps = window(responses, len(grid.sizes))
    if float(responses.abs().sum()) > float(taps.abs().sum()) * (1 + NOTHING) + NOTHING:
        far = next((n for n in graph.nodes if n in graph.ancestors(node) and _reaches_far(n)), node)
        raise NotAccelerated(f"the perception sees further than {REACH} cells: {at_node(far)}")
    seen.base, seen.taps, seen.hit = base, taps, taps.flatten(2).abs().amax(2) > NOTHING
    return seen


def _reaches_far(node: Node) -> bool:
    """Whether it is a convolution that sees further than a rule's filters."""
    if operation(node) != "convolution":
        return False
    weight, dilations = arguments(node)[1], arguments(node)[5]
    sizes = weight.meta["val"].shape[2:]
    return any((size - 1) * dilation > 2 * REACH for size, dilation in zip(sizes, dilations, strict=True))


def found_node(graph: StepGraph, layers: Layers, grid: Grid) -> Node:
    """What the first layer takes, before it was flattened to a matrix where that is a view."""
    data = node = layers.hidden[0].data
    while not grid.has_channel_axis(node.meta["val"].shape):
        if operation(node) not in VIEWS or arguments(node)[0] not in graph.dependent:
            return data
        node = arguments(node)[0]
    return node


def window(responses: Tensor, ndim: int) -> Tensor:  # [..., *S] -> [..., *7]
    """The taps of responses to a unit: a cross-correlation's are turned around."""
    cut = (slice(size // 2 - REACH, size // 2 + REACH + 1) for size in responses.shape[-ndim:])
    window: tuple[Any, ...] = (..., *cut)
    return responses[window].flip([-1 - axis for axis in range(ndim)])
