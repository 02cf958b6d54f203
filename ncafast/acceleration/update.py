"""From the last layer to the next state, measured: which channels change, by which factor, and which cells live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.behind import Behind, Limits
from ncafast.acceleration.errors import NotAccelerated, arguments, at_node, operation
from ncafast.acceleration.firing import BERNOULLI, Firing, measure_firing
from ncafast.acceleration.graph import StepGraph
from ncafast.acceleration.layers import Layers, fill
from ncafast.acceleration.layout import Grid
from ncafast.acceleration.living import measure_alive
from ncafast.acceleration.measure import NOTHING, Measure
from ncafast.alive import Alive

NO_UPDATE = "a step replaces or scales the state that it is given, and adds no update to it"
Factors = Callable[[Sequence[Tensor]], Tensor]  # the step's tensors -> [C]
_SCALES = (1.0, 1e-3, 1e3)


@dataclass
class Update:
    """What follows the last layer."""

    matrix: Tensor  # [C, M]: state's channels from the last layer's rows, step size included
    firing: Firing | None
    alive: Alive | None
    restore: tuple[int, int] | None
    activation: str
    clamp: Limits | None
    factors: Factors | None = None  # of the channels, where parameters scale the update


def measure_update(
    graph: StepGraph, layers: Layers, behind: Behind, grid: Grid, tensors: Sequence[Tensor], learned: int
) -> Update:
    """Mask, channels, factor, alive mask and clamp.

    Args:
        graph: the step.
        layers: its layers.
        behind: what is not linear behind them.
        grid: the sizes of the step.
        tensors: values of its tensors.
        learned: how many of these are parameters, which come first.

    Raises:
        NotAccelerated: what follows the last layer is not in a rule.
    """
    measure = Measure(graph, layers, behind, grid, tensors)
    firing, draw = None, None
    if measure.random is not None:
        firing = measure_firing(graph, measure.random, grid, measure.moves, tensors)
        draw = 1.0 if operation(measure.random) in BERNOULLI else firing.surely
    matrix = _matrix(measure, draw)
    _check_clamps(measure, draw)
    alive = measure_alive(measure, matrix, draw, layers) if measure.pools else None
    restore = _past_clamp(measure, behind.clamp, draw)
    if alive is not None and alive.gates == "state":
        restore = _restored(measure, alive.threshold, draw)
    factors = _factors(measure, behind, matrix, draw, graph.tensors[:learned])
    return Update(matrix, firing, alive, restore, behind.activation, behind.clamp, factors)


def _factors(
    measure: Measure, behind: Behind, matrix: Tensor, draw: float | None, parameters: Sequence[Node]
) -> Factors | None:
    """What parameters scale the update of each channel by, from the present values of the step's tensors.

    Raises:
        NotAccelerated: the last layer's weight and bias cannot be scaled in its place.
    """
    places = [measure.graph.tensors.index(node) for node in measure.learned(parameters)]
    if not places:
        return None

    def factors(tensors: Sequence[Tensor]) -> Tensor:
        dtype = next(t.dtype for t in tensors if t.is_floating_point())
        return measure.rows(draw, tensors, dtype)

    names = [repr(measure.graph.names[k]) for k in places]
    leaves = [t.clone().requires_grad_(k in places and t.is_floating_point()) for k, t in enumerate(measure.tensors)]
    total = factors(leaves).sum()
    grads = torch.autograd.grad(total, [leaves[k] for k in places], allow_unused=True) if total.requires_grad else ()
    for name, grad in zip_longest(names, grads):
        if grad is None:
            raise NotAccelerated(f"a parameter decides which cells update or live, a rule has a number there: {name}")
    if behind.activation != "identity":
        said = f"a parameter scales the update behind its {behind.activation}, a rule has a number there"
        raise NotAccelerated(f"{said}: {', '.join(names)}")
    if int((matrix != 0).sum(1).max()) > 1:
        raise NotAccelerated(f"a parameter mixes the update's channels behind the last layer: {', '.join(names)}")
    return factors


def _check_clamps(measure: Measure, draw: float | None) -> None:
    """Refuse clamps of something else than all of the state."""
    for clamp in measure.clamps:
        x = measure.state(None)
        looks = measure.after(x, fill(measure.last, 0.0), draw=draw, node=arguments(clamp)[0])
        if looks.shape != x.shape or float((looks - x).abs().max()) > NOTHING:
            raise NotAccelerated(f"something else than the whole state after the update is clamped: {at_node(clamp)}")


def _past_clamp(measure: Measure, clamp: Limits | None, draw: float | None) -> tuple[int, int] | None:
    """The range of channels that keep values beyond a clamp's limits."""
    if clamp is None:
        return None
    reach = 1e3 * max(1.0, *(abs(side) for side in clamp if side is not None))
    ends = [measure.state(sign * reach) for sign in (-1.0, 1.0)]
    left = [measure.after(x, fill(measure.last, 0.0), draw=draw, clamped=True) == x for x in ends]
    kept = [c for c in range(measure.grid.channels) if all(bool(same[:, c].all()) for same in left)]
    if kept and kept[-1] - kept[0] + 1 != len(kept):
        raise NotAccelerated(f"channels {kept} are not clamped, a rule leaves out one range")
    return (kept[0], kept[-1] + 1) if kept else None


def _matrix(measure: Measure, draw: float | None) -> Tensor:
    """[C, M] by one row of the last layer at a time."""
    matrix = measure.columns(draw, measure.graph.out)
    if not bool(matrix.abs().sum() > NOTHING):
        raise NotAccelerated(f"the last layer does not change the state: {at_node(measure.last)}")
    for scale in _SCALES:  # operations that are linear by name may still be none together, and the state must stay
        x = measure.state(None) * scale
        if float((measure.after(x, fill(measure.last, 0.0), draw=draw) - x).abs().max()) > NOTHING * scale:
            raise NotAccelerated(NO_UPDATE)
    return matrix


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
