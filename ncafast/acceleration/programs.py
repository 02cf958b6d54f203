"""Parts of Dynamo's graph as programs of their own that take a state of any size."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

from ncafast.acceleration.double import Lines
from ncafast.acceleration.errors import Misread, NotAccelerated, at_exception, at_node
from ncafast.acceleration.nodes import value_of
from ncafast.acceleration.sizes import Size, Sizes, numbers, with_numbers

Examples = Mapping[Node, Any]  # values of a graph's inputs and constants

Parts = Mapping[Node, tuple[int, int, int]]  # axis, first channel and number of channels


class Program:
    """Evaluates a graph, node by node, so that reasons name lines of the user's code."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __call__(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """The graph's results."""
        given, values = iter(inputs), dict[Node, Any]()
        *nodes, output = self.graph.nodes
        try:
            for node in nodes:
                Lines.known = node.meta.get("stack_trace")
                args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
                values[node] = next(given) if node.op == "placeholder" else _call(node, args, kwargs)
        finally:
            Lines.known = None
        results: Any = map_arg(output.args[0], values.__getitem__)
        return results


class Builder:
    """Copies nodes into graphs of their own, in which sizes are computed from the state's; runs them on the way."""

    def __init__(self, start: Node, tensors: list[Node], examples: Examples, channels: int, turned: bool) -> None:
        self.start, self.examples = start, examples
        state = value_of(start)
        assert isinstance(state, Tensor)
        self.shape = state.shape
        self.sizes = Sizes([hint(length) for length in state.shape], channels, turned)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.inputs = [start, *tensors]
        self.values = [
            self._fake(state, self.sizes.probe),
            *(self._fake(t, t.shape) for t in (examples[node] for node in tensors)),
        ]

    def build(self, nodes: Sequence[Node], results: Sequence[Node], parts: Parts | None = None) -> Graph:
        """A graph of these nodes, which takes the state, the tensors, and the results of the graph built before.

        Values in `parts` are cut out of the state.
        """
        graph = Graph()
        copies: dict[Node, Any] = {node: graph.placeholder(f"in{k}") for k, node in enumerate(self.inputs)}
        values = dict(zip(copies.values(), self.values, strict=True))
        for node, cut in (parts or {}).items():
            copies[node] = graph.call_function(torch.narrow, (copies[self.start], *cut))
            values[copies[node]] = torch.narrow(self.values[0], *cut)
        for node in nodes:
            if node in copies:
                continue
            number = self.number(node)
            copies[node] = self._copy(graph, node, copies, values) if number is None else number
        graph.output(tuple(copies[node] for node in results))
        self.inputs += results
        self.values += [values[copies[node]] for node in results]
        return graph

    def _copy(self, graph: Graph, node: Node, copies: dict[Node, Any], values: dict[Node, Any]) -> Node:
        if node.op not in ("call_function", "call_method"):
            raise NotAccelerated(f"a step takes {node.op} {node.target!s}, which is not an operation")

        def known(other: Node) -> Any:
            return copies[other] if other in copies else self.number(other)

        copy = graph.create_node(node.op, node.target, map_arg(node.args, known), map_arg(node.kwargs, known))
        copy.meta["stack_trace"] = node.meta.get("stack_trace")

        def run(lengths: list[int]) -> Any:
            args, kwargs = with_numbers(copy, lengths)
            with self.mode, torch.no_grad(), _silent():
                return _call(copy, map_arg(args, values.__getitem__), map_arg(kwargs, values.__getitem__))

        sizes = self._read(copy, run, values)
        try:
            values[copy] = run([size.at(self.sizes.probe) for size in sizes])
        except Exception as error:
            reason = f"on another grid a step fails: {at_exception(error)}: {at_node(copy)}"
            raise Misread(reason, len(values)) from error
        with graph.inserting_before(copy):
            lengths = [_length(graph, next(iter(graph.nodes)), size) for size in sizes]
        copy.args, copy.kwargs = with_numbers(copy, lengths)
        if any(isinstance(value, Symbol) for value in tree_leaves((copy.args, copy.kwargs))):
            raise NotAccelerated(f"a size of the state is used as a number: {at_node(copy)}")
        return copy

    def _read(self, copy: Node, run: Callable[[list[int]], Any], values: dict[Node, Any]) -> list[Size]:
        """The sizes among a node's numbers."""
        given = numbers(copy)
        if not given:
            return []
        first = copy.args[0] if copy.args else None
        sizes = self.sizes.readings(copy, run, values[first] if isinstance(first, Node) else torch.empty(()))
        if sizes is None or not all(self._holds(size, value) for size, value in zip(sizes, given, strict=True)):
            raise Misread(f"sizes in the graph are not those of the state: {at_node(copy)}", len(values))
        return sizes

    def _holds(self, size: Size, value: Any) -> bool:
        """Whether a size is what Dynamo's symbol says, also on another grid."""
        if not isinstance(value, Symbol):
            return True
        shape: list[Any] = list(self.shape)
        lengths = {n.node.expr: hint(n) + 7 * (k + 1) for k, n in enumerate(shape) if isinstance(n, torch.SymInt)}
        other = [int(n.node.expr.subs(lengths)) if isinstance(n, torch.SymInt) else n for n in shape]
        return bool(value.symbol.node.expr.subs(lengths) == size.at(other))

    def number(self, node: Node) -> Any:
        """The number that a node is on the user's grid, None for tensors."""
        value = self.examples.get(node, value_of(node))
        if isinstance(value, torch.SymInt):
            return Symbol(value)
        return value if isinstance(value, (int, float)) else None

    def _fake(self, like: Tensor, shape: Sequence[int]) -> Tensor:
        with self.mode:
            return torch.empty(tuple(shape), dtype=like.dtype, device=like.device)


class Symbol(int):
    """The value on the user's grid of a size that Dynamo keeps open."""

    symbol: torch.SymInt

    def __new__(cls, symbol: torch.SymInt) -> Symbol:  # noqa: D102
        value = super().__new__(cls, hint(symbol))
        value.symbol = symbol
        return value


def hint(value: Any) -> int:
    """A length on the user's grid.

    Raises:
        NotAccelerated: Dynamo does not know it.
    """
    found = value.node.hint if isinstance(value, torch.SymInt) else value
    if not isinstance(found, int):
        raise NotAccelerated("a size depends on values of tensors")
    return found


def _length(graph: Graph, x: Node, size: Size) -> Any:
    """Nodes that compute a length from the state's."""
    if not size.axes:
        return size.at(())
    length: Any = None
    for axis in size.axes:
        one = graph.call_method("size", (x, axis))
        length = one if length is None else graph.call_function(operator.mul, (length, one))
    if size.scale != 1:
        length = graph.call_function(operator.mul, (length, size.scale))
    return graph.call_function(operator.add, (length, size.offset)) if size.offset else length


@contextmanager
def _silent() -> Iterator[None]:
    """PyTorch logs what fails on tensors without numbers, also where that is caught."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _call(node: Node, args: Any, kwargs: Any) -> Any:
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]
