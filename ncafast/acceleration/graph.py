"""One step of the user's own code as a graph, any part of which can be evaluated on values of ours."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.func import functional_call, functionalize
from torch.fx import Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.fx.traceback import preserve_node_meta

from ncafast.acceleration.double import Double, Lines
from ncafast.acceleration.errors import NotAccelerated, arguments, at_exception, at_node, operation
from ncafast.acceleration.opened import opened

VIEWS = {
    *("view", "_unsafe_view", "reshape", "transpose", "permute", "t", "clone", "alias", "expand", "unsqueeze"),
    *("squeeze", "_to_copy", "contiguous", "view_as", "detach"),
}
SHAPES = {  # what they return depends on their input's shape alone
    *("new_empty", "new_zeros", "new_ones", "new_full", "empty_like", "zeros_like", "ones_like", "full_like"),
    "rand_like",
}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # buffers of norms
KEPT_STATISTICS = (
    "; norms keep theirs in evaluation, after eval(); ncafast.NCA(norm='running') follows them in training too"
)
_SLICES = VIEWS | {"slice", "select", "as_strided"}


def source(node: Node) -> Node:
    """The node that a chain of views starts from."""
    while operation(node) in VIEWS:
        node = arguments(node)[0]
    return node


class StepGraph:
    """The traced step. `x` and `out` are its state nodes; `dependent` are the nodes that depend on the state.

    `tensors` are the nodes of the module's parameters and buffers and, behind them, `given`: those of the tensors that
    the call has beside its state. `outs` are the nodes of all that it returns, `rebuild` puts tensors in their place.

    Raises:
        NotAccelerated: the step cannot be traced, or writes into its buffers.
    """

    def __init__(
        self, module: nn.Module, call: Callable[..., Any], x: Tensor, given: Sequence[Tensor] = (), pick: int = 0
    ) -> None:
        tensors = named_tensors(module)
        self.names = list(tensors)
        values = [tensor.detach() for tensor in tensors.values()]
        wrapper = _Call(module, call)

        def step(values: Sequence[Tensor], given: Sequence[Tensor], x: Tensor) -> list[Tensor]:
            named = {f"module.{name}": value for name, value in zip(self.names, values, strict=True)}
            with Lines(), Double():
                out = functional_call(wrapper, named, (x, *given))
            tensors, self.rebuild, _ = opened(out)
            self.plain = isinstance(out, Tensor)
            return tensors

        try:
            with preserve_node_meta():
                self.module = make_fx(functionalize(step))(values, list(given), x)
        except NotAccelerated:
            raise
        except Exception as error:  # whatever the user's code raises on a tensor that is traced
            raise NotAccelerated(_why_untraced(error)) from error
        self.nodes = list(self.module.graph.nodes)
        inputs = [node for node in self.nodes if node.op == "placeholder"]
        self.tensors, self.x = inputs[:-1], inputs[-1]
        self.given = self.tensors[len(values) :]
        self.outs: list[Node] = list(arguments(self.nodes[-1])[0])
        self.out = self.outs[pick]
        self._check_constants()
        self._needs = self._with_mutations()
        self.dependent, self._varying = self._reached({self.x}), self._reached(set(self.given))
        self.used = self.ancestors(self.out)

    def ancestors(self, node: Node, stop: Mapping[Node, Any] | None = None) -> set[Node]:
        """A node and all that it is computed from, not looking behind the nodes in `stop`."""
        found, todo = set(), [node]
        while todo:
            node = todo.pop()
            if node not in found:
                found.add(node)
                todo += [] if stop and node in stop else self._needs[node]
        return found

    def operations(self, outside: Iterable[Node] = ()) -> list[str]:
        """All operations with their numbers and the module's tensors, but for those that only lead to the nodes in
        `outside`.
        """
        names = dict(zip(self.tensors, self.names, strict=False))
        kept = self.ancestors(self.out, dict.fromkeys(outside)) - set(outside)
        ran = (node for node in self.nodes if node in kept and isinstance(node.target, OpOverload))
        return [f"{node.target} {map_arg((node.args, node.kwargs), names.get)}" for node in ran]

    def depends(self, node: Node, on: Node) -> bool:
        """Whether a node is computed from another."""
        return on in self.ancestors(node)

    def varies(self, node: Node) -> bool:
        """Whether a node is computed from the call's other tensors."""
        return node in self._varying

    def evaluate(
        self, node: Node, feed: Mapping[Node, Tensor], tensors: Sequence[Tensor], skip: Sequence[Node] = ()
    ) -> Any:
        """The value of a node, with values of ours for the nodes in `feed`; nodes in `skip` pass their input on.

        The dtype is that of the first floating tensor: float32 tensors give what the user's code gives in float32.
        """
        memo: dict[Node, Any] = {**dict(zip(self.tensors, tensors, strict=True)), **feed}
        dtype = next((t.dtype for t in (*feed.values(), *tensors) if t.is_floating_point()), torch.float64)
        if self.x not in memo:  # for its shape
            like = self.x.meta["val"]
            memo[self.x] = torch.zeros(like.shape, dtype=dtype, device=like.device)
        needed = self.ancestors(node, memo)
        for other in self.nodes:
            if other in needed and other not in memo:
                memo[other] = memo[arguments(other)[0]] if other in skip else self._value(other, memo, dtype)
        return memo[node]

    def _reached(self, start: set[Node]) -> set[Node]:
        """The nodes that depend on those, not by their shapes alone."""
        found = set(start)
        for node in self.nodes:
            if operation(node) not in SHAPES and any(need in found for need in self._needs[node]):
                found.add(node)
        return found

    def _value(self, node: Node, memo: Mapping[Node, Any], dtype: torch.dtype) -> Any:
        if node.op == "get_attr":
            value = getattr(self.module, str(node.target))
            return value.to(dtype) if value.is_floating_point() else value
        args: Any = map_arg(node.args, memo.__getitem__)
        kwargs: Any = map_arg(node.kwargs, memo.__getitem__)
        if kwargs.get("dtype") is torch.float64:
            kwargs = {**kwargs, "dtype": dtype}
        target: Any = node.target if operation(node) != "view" else torch.ops.aten.reshape.default
        return target(*args, **kwargs)

    def _check_constants(self) -> None:
        """A weight that the module does not know of would get no gradient."""
        for node in self.nodes:
            if node.op == "get_attr" and getattr(self.module, str(node.target)).requires_grad:
                why = "is no parameter of the module (is its layer in a plain list?)"
                raise NotAccelerated(f"a step uses a tensor that requires gradients and {why}")

    def _with_mutations(self) -> dict[Node, list[Node]]:
        """What each node is computed from: its inputs, and what was written into them before."""
        written: dict[Node, list[Node]] = {}
        needs: dict[Node, list[Node]] = {}
        for node in self.nodes:
            needs[node] = [*node.all_input_nodes, *(w for n in node.all_input_nodes for w in written.get(_base(n), ()))]
            if operation(node) == "copy_":
                base = _base(arguments(node)[0])
                if base is self.x:
                    raise NotAccelerated(f"a step writes into the state that it is given: {at_node(node)}")
                if base in self.given:
                    raise NotAccelerated(f"a step writes into an argument: {at_node(node)}")
                if base.op == "placeholder":
                    name = self.names[self.tensors.index(base)]
                    hint = KEPT_STATISTICS if name.endswith(STATISTICS) else ""
                    raise NotAccelerated(f"a step changes the module's tensor {name!r}: {at_node(node)}{hint}")
                written.setdefault(base, []).append(node)
        return needs


def factors(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[float]:
    """The numbers among an operation's arguments that are no sizes, axes or flags."""
    if not isinstance(target, OpOverload):
        return
    given = {**{a.name: value for a, value in zip(target._schema.arguments, args, strict=False)}, **kwargs}
    for argument in target._schema.arguments:
        value = given.get(argument.name)
        counts = any(kind in str(argument.type) for kind in ("int", "Int", "bool"))
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not counts:
            yield float(value)


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


class _Call(nn.Module):
    def __init__(self, module: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, x: Tensor, *given: Tensor) -> Any:
        return self.call(self.module, x, *given)


def _base(node: Node) -> Node:
    while operation(node) in _SLICES and node.args:
        node = arguments(node)[0]
    return node


def _why_untraced(error: Exception) -> str:
    if "value out of a tracing tensor" in str(error) or "data-dependent" in str(error):
        where = at_exception(error).rpartition(" at ")[2]
        return f"a step branches on values of the state, or reads one as a Python number, at {where}"
    return f"a step cannot be traced: {at_exception(error)}"


GETITEM = operator.getitem
