"""What the first layer sees of a state, measured: one unit of one channel in the middle of an empty grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.errors import NotAccelerated, arguments, at_node, operation
from ncafast.acceleration.graph import VIEWS, StepGraph
from ncafast.acceleration.layers import Layers, activation_of
from ncafast.acceleration.layout import Grid

_REACH = 3  # cells on each side that a filter of a rule may see
_NOTHING = 1e-9  # responses below this are rounding
_NONE = -1


@dataclass
class Perception:
    """The perception in the terms of a rule.

    `columns` gives for each input of a rule's first layer the row of the user's perception that it is, or -1.
    """

    identity: bool
    dense: bool
    filters: int  # F, or outputs of the dense convolution
    kernel: tuple[int, ...]
    bias: bool
    activation: str
    columns: list[int]
    _rows: list[int]
    _seen: Node
    _skip: list[Node]
    _grid: Grid = field(repr=False)

    def parameters(self, graph: StepGraph, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """The filters and their bias from the present values of the user's tensors, differentiable."""
        if not self.filters:
            return {}
        grid, rows = self._grid, self._rows
        units = [[c] for c in range(grid.channels)] if self.dense else [list(range(grid.channels))]
        dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float64)
        probe = [_probe(graph, self._seen, grid, unit, tensors, self._skip, dtype) for unit in units]
        base = probe[0][1]
        responses = torch.stack([response for response, _ in probe], 1)  # [P, C or 1, *S]
        found = _window(responses, len(grid.sizes))
        cut: tuple[Any, ...] = (..., *(slice(_REACH - k // 2, _REACH + k // 2 + 1) for k in self.kernel))
        taps = torch.cat([found, torch.zeros_like(found[:1])])[rows][cut]  # row -1 is the empty one
        middle: tuple[Any, ...] = (..., *(size // 2 for size in grid.sizes))
        offsets = torch.cat([base[middle], base.new_zeros(1)])[rows]
        shape = (len(rows),) if self.dense else (self.filters, grid.channels)
        result = {"perceive.weight": taps if self.dense else taps.reshape(*shape, *self.kernel)}
        return {**result, "perceive.bias": offsets.reshape(shape)} if self.bias else result


def measure_perception(graph: StepGraph, layers: Layers, grid: Grid, tensors: Sequence[Tensor]) -> Perception:
    """Find identity, filters and their order by probes.

    Raises:
        NotAccelerated: the perception is none that a rule has.
    """
    seen, skip = _seen(graph, layers, grid), layers.perception_activations
    probes = [_probe(graph, seen, grid, [c], tensors, skip, torch.float64) for c in range(grid.channels)]
    base = probes[0][1].detach()
    responses = torch.stack([response for response, _ in probes], 1).detach()  # [P, C, *S]
    taps = _window(responses, len(grid.sizes))
    if float(responses.abs().sum()) > float(taps.abs().sum()) * (1 + _NOTHING) + _NOTHING:
        raise NotAccelerated(f"the perception sees further than {_REACH} cells: {at_node(seen)}")
    hit = taps.flatten(2).abs().amax(2) > _NOTHING
    _check_base(base, hit, seen)
    activated = _activated_rows(graph, seen, grid, tensors, skip) if skip else hit.new_zeros(len(hit))
    own = {c: p for c, p in _identity_rows(taps, hit).items() if not activated[p]}
    rest = [p for p in range(len(hit)) if p not in own.values() and bool(hit[p].any())]
    if skip and not all(activated[p] for p in rest):
        raise NotAccelerated(f"only a part of the perception's filters has an activation: {at_node(skip[0])}")
    dense = bool(skip) or bool((hit[rest].sum(1) > 1).any())
    rows, filters = (rest, len(rest)) if dense else _by_channel(hit, rest)
    return Perception(
        identity=bool(own),
        dense=dense,
        filters=filters,
        kernel=_kernel(taps[rest]),
        bias=bool(rest) and float(base[rest].abs().max()) > _NOTHING,
        activation=_activation(skip),
        columns=([own.get(c, _NONE) for c in range(grid.channels)] if own else []) + rows,
        _rows=rows,
        _seen=seen,
        _skip=skip,
        _grid=grid,
    )


def _seen(graph: StepGraph, layers: Layers, grid: Grid) -> Node:
    """What the first layer takes, before it was flattened to a matrix where that is a view."""
    data = node = layers.hidden[0].data
    while not grid.has_channel_axis(node.meta["val"].shape):
        if operation(node) not in VIEWS or arguments(node)[0] not in graph.dependent:
            return data
        node = arguments(node)[0]
    return node


def _probe(
    graph: StepGraph,
    seen: Node,
    grid: Grid,
    unit: list[int],
    tensors: Sequence[Tensor],
    skip: list[Node],
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # [P, *S] each
    """Response to a unit in the middle of those channels in the first sample; response to nothing."""
    like = graph.x.meta["val"]
    x = torch.zeros(grid.batch, grid.channels, *grid.sizes, dtype=dtype, device=like.device)
    place: tuple[Any, ...] = (0, unit, *(size // 2 for size in grid.sizes))
    x[place] = 1
    y = grid.cells(graph.evaluate(seen, {graph.x: grid.outward(x)}, tensors, skip))
    return y[0] - y[1], y[1]


def _window(responses: Tensor, ndim: int) -> Tensor:  # [..., *S] -> [..., *7]
    """The taps of responses to a unit: a cross-correlation's are turned around."""
    cut = (slice(size // 2 - _REACH, size // 2 + _REACH + 1) for size in responses.shape[-ndim:])
    window: tuple[Any, ...] = (..., *cut)
    return responses[window].flip([-1 - axis for axis in range(ndim)])


def _check_base(base: Tensor, hit: Tensor, seen: Node) -> None:
    """What is seen of an empty state may only be the filters' bias."""
    flat = base.flatten(1)
    blind = ~hit.any(1)
    if float(flat[blind].abs().sum()) > _NOTHING:
        raise NotAccelerated(f"the perception has channels that are not state (position, time): {at_node(seen)}")
    if float((flat - flat[:, :1]).abs().max()) > _NOTHING:
        raise NotAccelerated(f"the perception of an empty state differs from cell to cell: {at_node(seen)}")


def _identity_rows(taps: Tensor, hit: Tensor) -> dict[int, int]:
    """Channel -> row that is this channel itself."""
    delta = torch.zeros_like(taps[0, 0])
    delta[(_REACH,) * delta.dim()] = 1
    found: dict[int, int] = {}
    for p, row in enumerate(hit):
        channel = int(row.int().argmax())
        if int(row.sum()) == 1 and channel not in found and torch.equal(taps[p, channel], delta):
            found[channel] = p
    return found


def _activated_rows(
    graph: StepGraph, seen: Node, grid: Grid, tensors: Sequence[Tensor], skip: list[Node]
) -> Tensor:  # [P] bool
    like = graph.x.meta["val"]
    x = grid.outward(torch.randn(grid.batch, grid.channels, *grid.sizes, dtype=torch.float64)).to(like.device)
    real, linear = (grid.cells(graph.evaluate(seen, {graph.x: x}, tensors, no)) for no in ((), skip))
    return (real - linear).abs().transpose(0, 1).flatten(1).amax(1) > _NOTHING


def _activation(skip: list[Node]) -> str:
    kinds = {found[0] for node in skip if (found := activation_of(node)) is not None}
    if len(kinds) > 1:
        raise NotAccelerated(f"the perception has several activations: {', '.join(map(at_node, skip))}")
    return kinds.pop() if kinds else "identity"


def _by_channel(hit: Tensor, rest: list[int]) -> tuple[list[int], int]:
    """Rows filter by filter, all channels of each; where a channel has fewer filters, -1."""
    of = [[p for p in rest if bool(hit[p, c])] for c in range(hit.shape[1])]
    most = max(map(len, of))
    return [rows[f] if f < len(rows) else _NONE for f in range(most) for rows in of], most


def _kernel(taps: Tensor) -> tuple[int, ...]:  # [n, C, *7]
    """The smallest odd kernel that holds all taps."""
    present = taps.abs().flatten(0, 1).sum(0) > _NOTHING if len(taps) else taps.new_zeros(taps.shape[2:])
    places = present.nonzero()
    if not len(places):
        return (1,) * (taps.dim() - 2)
    return tuple(2 * int(reach) + 1 for reach in (places - _REACH).abs().amax(0))
