"""Equal steps in a graph that Dynamo unrolled: where one value alone crosses from each to the next, the state."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.fx.node import map_arg

from ncafast.acceleration.errors import operation
from ncafast.acceleration.nodes import alike, is_state, needs, value_of

_PERIODS = 24  # lengths of a step that are tried, the most frequent distances between equal nodes
_LAST_STATES = 3  # values that may be the last state, where more than states is computed on the way
_AUTOCAST = ("_enter_autocast", "_exit_autocast")
_GRAD_MODE = torch._C._set_grad_enabled
_MIXING = ("conv1d", "conv2d", "conv3d", "linear", "matmul", "mm", "bmm", "einsum", "addmm", "baddbmm", "__matmul__")


@dataclass
class Chain:
    """Steps that are equal: `segments[k]` computes `states[k]` from the state before it, the first one from `start`."""

    start: Node
    states: list[Node]
    segments: list[list[Node]]

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self.segments)


def find_chains(graph: Graph) -> list[Chain]:
    """The steps in a graph, every chain with at least two, in the order of the graph.

    Where other values are computed from the states on the way, such as losses, chains of single steps between them.
    """
    nodes = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    found = _chains(_Body(nodes))
    if found or any(operation(node) in _AUTOCAST for node in nodes):
        return found
    modes = {node for node in nodes if node.target is _GRAD_MODE}
    for last in [node for node in reversed(nodes) if is_state(node)][:_LAST_STATES]:
        needed = needs(last, nodes) | modes
        if not _in_one_mode(nodes, needed):
            continue
        found = _chains(_Body([node for node in nodes if node in needed]))
        if found and all(
            one[-1] is state for chain in found for one, state in zip(chain.segments, chain.states, strict=True)
        ):
            return found
    return []


def _in_one_mode(nodes: list[Node], apart: set[Node]) -> bool:
    """Whether all nodes but some compute gradients, or none of them does."""
    mode, seen = torch.is_grad_enabled(), set()
    for node in nodes:
        mode = bool(node.args[0]) if node.target is _GRAD_MODE else mode
        if node not in apart:
            seen.add(mode)
    return len(seen) < 2


def _chains(body: _Body) -> list[Chain]:
    taken: list[tuple[int, int]] = []
    found: list[tuple[int, Chain]] = []
    for run in sorted(body.runs(), key=lambda run: (run.begin - run.end, run.period)):
        if all(run.end <= low or high <= run.begin for low, high in taken):
            taken.append((run.begin, run.end))
            found += [(run.begin, chain) for chain in body.chains(run)]
    return [chain for _, chain in sorted(found, key=lambda pair: pair[0])]


def single_steps(graph: Graph) -> Iterator[Chain]:
    """One step each, from an input that is no parameter to the last value of its shape that all else is computed from.

    What is one step alone cannot be told from the graph; these are guesses.
    """
    body = _Body([node for node in graph.nodes if node.op not in ("placeholder", "output")])
    for start in (node for node in graph.nodes if node.op == "placeholder" and is_state(node)):
        for end in range(len(body.nodes), 0, -1):
            exits = body.exits(0, end)
            if len(exits) == 1 and alike(exits[0], start):
                nodes = body.nodes[:end]
                if any(operation(node) in _MIXING for node in nodes) and body.keeps_grad_mode(0, end):
                    yield Chain(start, exits, [nodes])
                break


@dataclass(frozen=True)
class _Run:
    begin: int
    end: int
    period: int
    start: Node


class _Body:
    """Operations in their order, each with what it does apart from which values it takes."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.place = {node: k for k, node in enumerate(self.nodes)}
        self.kinds = [_kind(node) for node in self.nodes]
        size = len(self.nodes)
        self.last_use = [max((self.place.get(user, size) for user in node.users), default=-1) for node in self.nodes]

    def runs(self) -> Iterator[_Run]:
        """Chains of two and more equal segments, by their places."""
        for period in self._periods():
            cut = period
            while cut + period <= len(self.nodes):
                run = self._run(cut, period)
                if run is not None:
                    yield self._whole(run)
                    cut = run.end
                cut += 1

    def _whole(self, run: _Run) -> _Run:
        """The same steps, cut where the state is largest: each step may begin with adding channels to it."""
        cuts = range(run.begin + run.period, min(run.begin + 2 * run.period, len(self.nodes) - run.period + 1))
        others = [other for other in (self._run(cut, run.period) for cut in cuts) if other is not None]
        return max((other for other in others if other.end - other.begin == run.end - run.begin), key=_elements)

    def chains(self, run: _Run) -> Iterator[Chain]:
        """A run as chains: a new one begins after each state that something else than the next step uses."""
        start, states, segments = run.start, list[Node](), list[list[Node]]()
        for low in range(run.begin, run.end, run.period):
            high = low + run.period
            (state,) = self.exits(low, high)
            states.append(state)
            segments.append(self.nodes[low:high])
            if high == run.end or self.last_use[self.place[state]] >= high + run.period:
                yield Chain(start, states, segments)
                start, states, segments = state, [], []

    def exits(self, low: int, high: int) -> list[Node]:
        """What of these nodes is used by later ones."""
        return [self.nodes[k] for k in range(low, high) if self.last_use[k] >= high]

    def keeps_grad_mode(self, low: int, high: int) -> bool:
        """Whether gradients are on after these nodes if they were before."""
        modes = [node.args[0] for node in self.nodes[:high] if node.target is _GRAD_MODE]
        inside = [node.args[0] for node in self.nodes[low:high] if node.target is _GRAD_MODE]
        before = modes[: len(modes) - len(inside)]
        return not inside or bool(inside[-1]) == (before[-1] if before else torch.is_grad_enabled())

    def _periods(self) -> list[int]:
        last: dict[Hashable, int] = {}
        gaps: Counter[int] = Counter()
        for k, kind in enumerate(self.kinds):
            if kind in last:
                gaps[k - last[kind]] += 1
            last[kind] = k
        return [gap for gap, _ in gaps.most_common(_PERIODS) if gap > 1]

    def _run(self, cut: int, period: int) -> _Run | None:
        """The run whose first segment ends at `cut`."""
        if self.kinds[cut - period] != self.kinds[cut] or self.kinds[cut - 1] != self.kinds[cut + period - 1]:
            return None
        exits = self.exits(cut - period, cut)
        if len(exits) != 1 or not self.keeps_grad_mode(cut - period, cut):
            return None
        start = self._equal(cut, period, None, exits[0])
        if start is None or not alike(start, exits[0]):
            return None
        end, before, state = cut, start, exits[0]
        while end + period <= len(self.nodes) and self._equal(end, period, before, state) is not None:
            exits = self.exits(end, end + period)
            if len(exits) != 1 or not alike(exits[0], state):
                break
            end, before, state = end + period, state, exits[0]
        return _Run(cut - period, end, period, start) if end > cut else None

    def _equal(self, cut: int, period: int, before: Node | None, state: Node) -> Node | None:
        """The state before the segment that ends at a cut, if the next one does with `state` what it does with that.

        Args:
            cut: where the first of the two segments ends.
            period: their length.
            before: the state before the first one; None finds it.
            state: the state between them.
        """
        for k in range(cut, cut + period):
            if self.kinds[k] != self.kinds[k - period]:
                return None
            pairs = zip(self.nodes[k - period].all_input_nodes, self.nodes[k].all_input_nodes, strict=True)
            for old, new in pairs:
                places = self.place.get(old, -1), self.place.get(new, -1)
                if new is state:
                    if before is None and places[0] < cut - period:
                        before = old
                    if old is not before:
                        return None
                elif places[1] >= cut:
                    if places[1] - places[0] != period:
                        return None
                elif old is not new or places[0] >= cut - period:
                    return None
        return before


def _elements(run: _Run) -> int:
    value = value_of(run.start)
    assert isinstance(value, Tensor)
    return math.prod(int(size.node.hint) if isinstance(size, torch.SymInt) else size for size in value.shape)


def _kind(node: Node) -> Hashable:
    """What a node does, whatever values it takes: of which it tells only where they stand, and which are the same."""
    inputs = node.all_input_nodes
    args, kwargs = map_arg((node.args, node.kwargs), lambda n: _Place(inputs.index(n)))
    if node.op == "get_attr":
        value = getattr(node.graph.owning_module, str(node.target), None)
        return ("get_attr", repr(value.tolist()) if isinstance(value, Tensor) and value.numel() < 4096 else node.target)
    target = getattr(node.target, "f", node.target)  # Dynamo wraps functions of NumPy anew in each call
    return node.op, target, repr(args), repr(kwargs)


class _Place(int):
    def __repr__(self) -> str:
        return f"%{int(self)}"
