"""From the last layer to the next state, measured: which channels change, by which factor, and which cells live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.allowed import POOLS
from ncafast.acceleration.errors import NotAccelerated, arguments, at_node, operation
from ncafast.acceleration.firing import BERNOULLI, Firing, measure_firing, random_node
from ncafast.acceleration.graph import GETITEM, StepGraph
from ncafast.acceleration.layers import Layers, fill
from ncafast.acceleration.layout import Grid
from ncafast.rule import Alive

_LIVES = 10.0  # a pooled value that is above any threshold, in the absence of better knowledge
_NOTHING = 1e-9
_SCALES = (1.0, 1e-3, 1e3)


@dataclass
class Update:
    """What follows the last layer."""

    matrix: Tensor  # [C, M]: state's channels from the last layer's rows, step size included
    firing: Firing | None
    alive: Alive | None
    restore: tuple[int, int] | None


class Measure:
    """Evaluates the part of a step behind its last layer."""

    def __init__(self, graph: StepGraph, layers: Layers, grid: Grid, tensors: Sequence[Tensor]) -> None:
        self.graph, self.grid, self.tensors = graph, grid, tensors
        self.last, self.axis = layers.update.node, layers.update.axis
        self.pools = [node for node in graph.nodes if node in graph.used and operation(node) in POOLS]
        values = (node for node in graph.nodes if node.target is GETITEM and arguments(node)[1] == 0)
        self.pooled = [node for node in values if arguments(node)[0] in self.pools]
        self.random = random_node(graph, grid)

    def after(
        self,
        x: Tensor,  # [B, C, *S]
        update: Tensor,
        *,
        pools: float | None = _LIVES,
        draw: float | None = None,
        node: Node | None = None,
    ) -> Tensor:  # [B, C, *S]
        """The next state (or another node) for a state and a last layer's result.

        Args:
            x: the state.
            update: the last layer's result, in its own shape.
            pools: value of every pool; None computes them.
            draw: value of every random number.
            node: what to evaluate in place of the next state.
        """
        feed = {self.last: update, self.graph.x: self.grid.outward(x)}
        if pools is not None:
            feed |= {pool: fill(pool, pools, x.dtype) for pool in self.pooled}
        if self.random is not None and draw is not None:
            feed[self.random] = fill(self.random, draw, x.dtype)
        tensors = [t.to(x.dtype) if t.is_floating_point() else t for t in self.tensors]
        return self.grid.cells(self.graph.evaluate(node or self.graph.out, feed, tensors))

    def state(self, value: float | None = 0.0, dtype: torch.dtype = torch.float64) -> Tensor:
        """A state full of one value, or of noise."""
        shape, device = (self.grid.batch, self.grid.channels, *self.grid.sizes), self.graph.x.meta["val"].device
        full = (
            torch.randn(shape, dtype=dtype, device=device) if value is None else torch.full(shape, value, dtype=dtype)
        )
        return full.to(device)

    def moves(self, draw: float, dtype: torch.dtype, pools: float = _LIVES) -> bool:
        """Whether cells update when every random number has a value."""
        ones = fill(self.last, 1.0, dtype)
        return bool(self.after(self.state(dtype=dtype), ones, pools=pools, draw=draw).abs().sum() > 0)


def measure_update(graph: StepGraph, layers: Layers, grid: Grid, tensors: Sequence[Tensor]) -> Update:
    """Mask, channels, factor and alive mask.

    Raises:
        NotAccelerated: what follows the last layer is not in a rule.
    """
    measure = Measure(graph, layers, grid, tensors)
    firing, draw = None, None
    if measure.random is not None:
        firing = measure_firing(graph, measure.random, grid, measure.moves, tensors)
        draw = 1.0 if operation(measure.random) in BERNOULLI else firing.surely
    matrix = _matrix(measure, draw)
    if not measure.pools:
        return Update(matrix, firing, None, None)
    alive = _alive(measure, matrix, draw, layers)
    return Update(matrix, firing, alive, _restored(measure, alive.threshold, draw))


def _matrix(measure: Measure, draw: float | None) -> Tensor:
    """[C, M] by one row of the last layer at a time."""
    matrix = _columns(measure, draw, measure.graph.out)
    if not bool(matrix.abs().sum() > _NOTHING):
        raise NotAccelerated(f"the last layer does not change the state: {at_node(measure.last)}")
    for scale in _SCALES:  # operations that are linear by name may still be none together, and the state must stay
        x = measure.state(None) * scale
        if float((measure.after(x, fill(measure.last, 0.0), draw=draw) - x).abs().max()) > _NOTHING * scale:
            raise NotAccelerated("a step does not add its update to the state it is given")
    return matrix


def _columns(measure: Measure, draw: float | None, node: Node) -> Tensor:
    """[channels of a node, M]: what each row of the last layer adds to it."""
    middle: tuple[Any, ...] = (0, slice(None), *(size // 2 for size in measure.grid.sizes))
    columns = []
    for row in range(measure.last.meta["val"].shape[measure.axis]):
        one = fill(measure.last, 0.0)
        one.select(measure.axis, row).fill_(1.0)
        columns.append(measure.after(measure.state(), one, draw=draw, node=node)[middle])
    return torch.stack(columns, 1)


def _alive(measure: Measure, matrix: Tensor, draw: float | None, layers: Layers) -> Alive:
    graph, pre, post, found = measure.graph, False, False, set()
    for pool in measure.pools:
        after = graph.depends(pool, layers.hidden[0].node)
        if (post if after else pre) or len(measure.pools) > 2:
            raise NotAccelerated(
                f"a step has more alive masks than one before and one after the update: {at_node(pool)}"
            )
        pre, post = pre or not after, post or after
        size = _pool_size(pool, len(measure.grid.sizes))
        found.add((size, _channel(measure, pool, matrix if after else torch.zeros_like(matrix), draw)))
    if len(found) > 1:
        raise NotAccelerated("the alive masks before and after the update look at different channels or windows")
    (size, channel), threshold = found.pop(), _threshold(measure, draw)
    return Alive(channel, threshold, size, pre, post)


def _pool_size(pool: Node, ndim: int) -> int:
    args = [*arguments(pool)[1:], *[None] * 5][:5]
    kernel, stride, padding, dilation, ceil = args
    sizes = set(kernel)
    size = max(sizes)
    flat = len(kernel) > ndim  # one axis, pooled as an image of one row
    plain = sizes in ({size}, {1, size}) if flat else sizes == {size}
    wide = set(stride or [1]) == {1} and set(dilation or [1]) == {1} and not ceil
    if not (plain and wide and size % 2 and max(padding or [0]) == size // 2):
        raise NotAccelerated(
            f"the alive mask's max pool is no odd window with stride 1 and padding of half its size: {at_node(pool)}"
        )
    return size


def _channel(measure: Measure, pool: Node, matrix: Tensor, draw: float | None) -> int:
    """The channel that a pool looks at. Its row of the matrix may be missing: a channel that is set back later."""
    x, ndim = measure.state(None), len(measure.grid.sizes)
    looks = measure.after(x, fill(measure.last, 0.0), draw=draw, node=arguments(pool)[0])
    if looks.shape[1] == 1 and looks.shape[2:] == x.shape[2:]:
        for c in range(x.shape[1]):
            if float((x[:, c] - looks[:, 0]).abs().max()) < _NOTHING:
                row = _columns(measure, draw, arguments(pool)[0])[0] if bool(matrix.any()) else matrix[c]
                if bool(matrix[c].any()) and not torch.allclose(row, matrix[c]):
                    break
                matrix[c] = row
                return c
    raise NotAccelerated(
        f"the alive mask's max pool looks at something else than one channel of the {ndim}-D state: {at_node(pool)}"
    )


def _threshold(measure: Measure, draw: float | None) -> float:
    def lives(value: float) -> bool:
        kept = measure.after(measure.state(1.0), fill(measure.last, 0.0), pools=value, draw=draw)
        return bool(kept.abs().amin() > 0)

    low, high = -1e3, 1e3
    x = measure.state(1.0)
    if torch.equal(measure.after(x, fill(measure.last, 1.0), pools=low, draw=draw), x):
        raise NotAccelerated("the alive mask gates the update and not the state: " + at_node(measure.pools[0]))
    if lives(low) or not lives(high):
        raise NotAccelerated("the alive mask does not clear whole cells: " + at_node(measure.pools[0]))
    for _ in range(90):
        middle = (low + high) / 2
        low, high = (low, middle) if lives(middle) else (middle, high)
    threshold = round(low, 9)
    if lives(threshold) or not lives(math.nextafter(threshold, math.inf)):
        threshold = low
    return threshold


def _restored(measure: Measure, threshold: float, draw: float | None) -> tuple[int, int] | None:
    """The range of channels that keep their value where a cell is dead."""
    x = measure.state(None)
    dead = measure.after(x, fill(measure.last, 1.0), pools=threshold - 1, draw=draw)
    kept = [c for c in range(x.shape[1]) if bool((dead[:, c] == x[:, c]).all())]
    cleared = [c for c in range(x.shape[1]) if not bool(dead[:, c].any())]
    if sorted(kept + cleared) != list(range(x.shape[1])):
        raise NotAccelerated("the alive mask does not clear whole cells: " + at_node(measure.pools[0]))
    if kept and kept[-1] - kept[0] + 1 != len(kept):
        raise NotAccelerated(f"channels {kept} keep their value in dead cells, a rule keeps one range")
    return (kept[0], kept[-1] + 1) if kept else None
