"""The alive mask, measured: its channel, window and threshold, when it is taken, and what it gates."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.errors import NotAccelerated, arguments, at_node
from ncafast.acceleration.layers import Layers, fill
from ncafast.acceleration.measure import NOTHING, Measure
from ncafast.alive import Alive
from ncafast.backends.reference import largest_near


def measure_alive(measure: Measure, matrix: Tensor, draw: float | None, layers: Layers) -> Alive:
    """The alive mask of a step that has one or two max pools.

    Args:
        measure: the step behind its last layer.
        matrix: [C, M] what the last layer's rows add to the channels; gets the row of an alive channel that is set
            back later.
        draw: a random number for which all cells update, if there is one.
        layers: the step's layers.

    Raises:
        NotAccelerated: no rule has such a mask.
    """
    pre, post, found = False, False, set()
    for pool in measure.pools:
        after = measure.graph.depends(pool, layers.hidden[0].node)
        if (post if after else pre) or len(measure.pools) > 2:
            raise NotAccelerated(
                f"a step has more alive masks than one before and one after the update: {at_node(pool)}"
            )
        pre, post = pre or not after, post or after
        size = _pool_size(pool, len(measure.grid.sizes))
        found.add((size, *_channel(measure, pool, size, matrix if after else torch.zeros_like(matrix), draw)))
    if len(found) > 1:
        raise NotAccelerated("the alive masks before and after the update look at different channels or windows")
    size, channel, wrap = found.pop()
    where = at_node(measure.pools[0])
    if not _gates_update(measure, draw):
        return Alive(channel, _threshold(_lives(measure, draw), where), size, pre, post, wrap)
    if post:
        raise NotAccelerated(f"an alive mask after the update gates the update and not the state: {where}")
    return Alive(channel, _threshold(_moves(measure, draw), where), size, True, False, wrap, "update")


def _pool_size(pool: Node, ndim: int) -> int:
    args = [*arguments(pool)[1:], *[None] * 5][:5]
    kernel, stride, padding, dilation, ceil = args
    sizes = set(kernel)
    size = max(sizes)
    flat = len(kernel) > ndim  # one axis, pooled as an image of one row
    plain = sizes in ({size}, {1, size}) if flat else sizes == {size}
    wide = set(stride or [1]) == {1} and set(dilation or [1]) == {1} and not ceil
    if not (plain and wide and size % 2 and max(padding or [0]) in (0, size // 2)):
        raise NotAccelerated(
            f"the alive mask's max pool is no odd window with stride 1 and padding of half its size: {at_node(pool)}"
        )
    return size


def _channel(measure: Measure, pool: Node, size: int, matrix: Tensor, draw: float | None) -> tuple[int, bool]:
    """The channel that a pool looks at, and whether it wraps.

    Its row of the matrix may be missing: a channel that is set back later.
    """
    x, ndim = measure.state(None), len(measure.grid.sizes)
    value = next(node for node in measure.pooled if arguments(node)[0] is pool)
    looks = measure.after(x, fill(measure.last, 0.0), draw=draw, node=value)
    for wrap in (False, True):
        if looks.shape[1:] != (1, *x.shape[2:]):
            break
        largest = largest_near(x, size, wrap)
        for c in range(x.shape[1]):
            if float((largest[:, c] - looks[:, 0]).abs().max()) < NOTHING:
                row = measure.columns(draw, value)[0] if bool(matrix.any()) else matrix[c]
                if not bool(matrix[c].any()) or torch.allclose(row, matrix[c]):
                    matrix[c] = row
                    return c, wrap
    raise NotAccelerated(
        f"the alive mask's max pool looks at something else than one channel of the {ndim}-D state: {at_node(pool)}"
    )


def _gates_update(measure: Measure, draw: float | None) -> bool:
    """Whether dead cells keep their state."""
    x = measure.state(1.0)
    return torch.equal(measure.after(x, fill(measure.last, 1.0), pools=-1e3, draw=draw), x)


def _lives(measure: Measure, draw: float | None) -> Callable[[float], bool]:
    x = measure.state(1.0)
    return lambda value: bool(
        measure.after(x, fill(measure.last, 0.0), pools=value, draw=draw).abs().amin() > 0,
    )


def _moves(measure: Measure, draw: float | None) -> Callable[[float], bool]:
    x = measure.state(1.0)
    return lambda value: not torch.equal(measure.after(x, fill(measure.last, 1.0), pools=value, draw=draw), x)


def _threshold(lives: Callable[[float], bool], where: str) -> float:
    low, high = -1e3, 1e3
    if lives(low) or not lives(high):
        raise NotAccelerated(f"the alive mask does not clear whole cells: {where}")
    for _ in range(90):
        middle = (low + high) / 2
        low, high = (low, middle) if lives(middle) else (middle, high)
    threshold = round(low, 9)
    if lives(threshold) or not lives(math.nextafter(threshold, math.inf)):
        threshold = low
    return threshold
