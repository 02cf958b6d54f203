"""What the first layer sees of a state, measured: one unit of one channel in the middle of an empty grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.activations import activation_of
from ncafast.acceleration.errors import NotAccelerated, at_node
from ncafast.acceleration.graph import StepGraph
from ncafast.acceleration.seen import NOTHING, REACH, Seen, window

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
    _extra: list[int]  # whose values for an empty state are extra channels, and no bias
    _seen: Seen = field(repr=False)

    def parameters(self, graph: StepGraph, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """The filters and their bias from the present values of the user's tensors, differentiable."""
        if not self.filters:
            return {}
        grid, rows = self._seen.grid, self._rows
        units = [[c] for c in range(grid.channels)] if self.dense else [list(range(grid.channels))]
        dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float64)
        base = self._seen.of_nothing(graph, tensors, dtype)[0]
        found = window(
            torch.stack([self._seen.of_unit(graph, unit, tensors, base) for unit in units], 1), len(grid.sizes)
        )
        cut: tuple[Any, ...] = (..., *(slice(REACH - k // 2, REACH + k // 2 + 1) for k in self.kernel))
        taps = torch.cat([found, torch.zeros_like(found[:1])])[rows][cut]  # row -1 is the empty one
        middle: tuple[Any, ...] = (..., *(size // 2 for size in grid.sizes))
        kept = base[middle].index_fill(0, torch.tensor(self._extra, dtype=torch.long, device=base.device), 0.0)
        offsets = torch.cat([kept, base.new_zeros(1)])[rows]
        shape = (len(rows),) if self.dense else (self.filters, grid.channels)
        result = {"perceive.weight": taps if self.dense else taps.reshape(*shape, *self.kernel)}
        return {**result, "perceive.bias": offsets.reshape(shape)} if self.bias else result


def measure_perception(seen: Seen, graph: StepGraph, tensors: Sequence[Tensor], extra: list[int]) -> Perception:
    """Find identity, filters and their order by probes.

    Args:
        seen: what the first layer sees of single cells.
        graph: the step.
        tensors: values of its tensors.
        extra: rows that are not state, wholly or in part, and so have an extra channel each.

    Raises:
        NotAccelerated: the perception is none that a rule has.
    """
    taps, hit, base, grid, skip = seen.taps, seen.hit, seen.base[0], seen.grid, seen.skip
    base = base.index_fill(0, torch.tensor(extra, dtype=torch.long, device=base.device), 0.0)
    activated = _activated_rows(seen, graph, tensors) if skip else hit.new_zeros(len(hit))
    own = {c: p for c, p in _identity_rows(taps, hit).items() if not activated[p] and not bool(base[p].any())}
    rest = [p for p in range(len(hit)) if p not in own.values() and bool(hit[p].any())]
    if any(activated[p] for p in extra):
        raise NotAccelerated(f"what is not state (position, time, condition) has an activation: {at_node(skip[0])}")
    if skip and not all(activated[p] for p in rest):
        raise NotAccelerated(f"only a part of the perception's filters has an activation: {at_node(skip[0])}")
    dense = bool(skip) or bool((hit[rest].sum(1) > 1).any())
    rows, filters = (rest, len(rest)) if dense else _by_channel(hit, rest)
    return Perception(
        identity=bool(own),
        dense=dense,
        filters=filters,
        kernel=_kernel(taps[rest]),
        bias=bool(rest) and float(base[rest].abs().max()) > NOTHING,
        activation=_activation(skip),
        columns=([own.get(c, _NONE) for c in range(grid.channels)] if own else []) + rows,
        _rows=rows,
        _extra=extra,
        _seen=seen,
    )


def _identity_rows(taps: Tensor, hit: Tensor) -> dict[int, int]:
    """Channel -> row that is this channel itself."""
    delta = torch.zeros_like(taps[0, 0])
    delta[(REACH,) * delta.dim()] = 1
    found: dict[int, int] = {}
    for p, row in enumerate(hit):
        channel = int(row.int().argmax())
        if int(row.sum()) == 1 and channel not in found and float((taps[p, channel] - delta).abs().max()) < NOTHING:
            found[channel] = p
    return found


def _activated_rows(seen: Seen, graph: StepGraph, tensors: Sequence[Tensor]) -> Tensor:  # [P] bool
    grid, like = seen.grid, graph.x.meta["val"]
    x = grid.outward(torch.randn(grid.batch, grid.channels, *grid.sizes, dtype=torch.float64)).to(like.device)
    real, linear = (seen.of(graph, x, tensors, skip) for skip in ((), seen.skip))
    return (real - linear).abs().transpose(0, 1).flatten(1).amax(1) > NOTHING


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
    present = taps.abs().flatten(0, 1).sum(0) > NOTHING if len(taps) else taps.new_zeros(taps.shape[2:])
    places = present.nonzero()
    if not len(places):
        return (1,) * (taps.dim() - 2)
    return tuple(2 * int(reach) + 1 for reach in (places - REACH).abs().amax(0))
