"""The part of a step behind its last layer, evaluated on values of ours."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.allowed import POOLS
from ncafast.acceleration.behind import Behind
from ncafast.acceleration.errors import arguments, operation
from ncafast.acceleration.firing import random_node
from ncafast.acceleration.graph import GETITEM, StepGraph
from ncafast.acceleration.layers import Layers, fill
from ncafast.acceleration.layout import Grid

LIVES = 10.0  # a pooled value that is above any threshold, in the absence of better knowledge
NOTHING = 1e-9


class Measure:
    """Evaluates the part of a step behind its last layer."""

    def __init__(self, graph: StepGraph, layers: Layers, behind: Behind, grid: Grid, tensors: Sequence[Tensor]) -> None:
        self.graph, self.grid, self.tensors, self.clamps = graph, grid, tensors, behind.clamps
        self.last, self.axis = behind.update, behind.axis
        self.pools = [node for node in graph.nodes if node in graph.used and operation(node) in POOLS]
        values = (node for node in graph.nodes if node.target is GETITEM and arguments(node)[1] == 0)
        self.pooled = [node for node in values if arguments(node)[0] in self.pools]
        self.random = random_node(graph, grid, layers.drawn)

    def after(
        self,
        x: Tensor,  # [B, C, *S]
        update: Tensor,
        *,
        pools: float | None = LIVES,
        draw: float | None = None,
        node: Node | None = None,
        clamped: bool = False,
        tensors: Sequence[Tensor] | None = None,
    ) -> Tensor:  # [B, C, *S]
        """The next state (or another node) for a state and a last layer's result.

        Args:
            x: the state.
            update: the last layer's result, in its own shape.
            pools: value of every pool; None computes them.
            draw: value of every random number.
            node: what to evaluate in place of the next state.
            clamped: with the clamp of the state, which otherwise passes its input on.
            tensors: values of the module's tensors in place of those that were measured.
        """
        feed = {self.last: update, self.graph.x: self.grid.outward(x)}
        if pools is not None:
            feed |= {pool: fill(pool, pools, x.dtype) for pool in self.pooled if pool is not node}
        if self.random is not None and draw is not None:
            feed[self.random] = fill(self.random, draw, x.dtype)
        tensors = [t.to(x.dtype) if t.is_floating_point() else t for t in tensors or self.tensors]
        return self.grid.cells(
            self.graph.evaluate(node or self.graph.out, feed, tensors, [] if clamped else self.clamps)
        )

    def state(self, value: float | None = 0.0, dtype: torch.dtype = torch.float64) -> Tensor:
        """A state full of one value, or of noise."""
        shape, device = (self.grid.batch, self.grid.channels, *self.grid.sizes), self.graph.x.meta["val"].device
        full = (
            torch.randn(shape, dtype=dtype, device=device) if value is None else torch.full(shape, value, dtype=dtype)
        )
        return full.to(device)

    def moves(self, draw: float, dtype: torch.dtype, pools: float = LIVES) -> bool:
        """Whether cells update when every random number has a value."""
        ones = fill(self.last, 1.0, dtype)
        return bool(self.after(self.state(dtype=dtype), ones, pools=pools, draw=draw).abs().sum() > 0)

    def rows(self, draw: float | None, tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """[C]: what ones in all rows of the last layer add to each channel; differentiable."""
        middle: tuple[Any, ...] = (0, slice(None), *(size // 2 for size in self.grid.sizes))
        ones = fill(self.last, 1.0, dtype)
        return self.after(self.state(dtype=dtype), ones, draw=draw, tensors=tensors)[middle]

    def learned(self, parameters: Collection[Node]) -> list[Node]:
        """The parameters that stand behind the last layer."""
        behind = self.graph.ancestors(self.graph.out, {self.last: None, self.graph.x: None})
        return [node for node in self.graph.tensors if node in parameters and node in behind]

    def columns(self, draw: float | None, node: Node) -> Tensor:
        """[channels of a node, M]: what each row of the last layer adds to it."""
        middle: tuple[Any, ...] = (0, slice(None), *(size // 2 for size in self.grid.sizes))
        columns = []
        for row in range(self.last.meta["val"].shape[self.axis]):
            one = fill(self.last, 0.0)
            one.select(self.axis, row).fill_(1.0)
            columns.append(self.after(self.state(), one, draw=draw, node=node)[middle])
        return torch.stack(columns, 1)
