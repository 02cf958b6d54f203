"""What a node of Dynamo's graph is: a state, one that writes in place, one that others need."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.errors import operation

_IN_PLACE = ("setitem", "iadd", "isub", "imul", "itruediv", "iand", "ior", "ixor", "ipow", "ifloordiv", "imod")


def value_of(node: Node) -> Any:
    """Dynamo's example of a node's value."""
    return node.meta.get("example_value")


def module_name(node: Node) -> str | None:
    """What the user's module calls an input of Dynamo's graph that is one of its tensors, such as `bn.running_mean`."""
    source = getattr(node.meta.get("grapharg"), "source", None)
    name = getattr(source, "name", "")
    words = re.findall(r"\w+", name() if callable(name) else name)  # L['self']._modules['bn']._buffers['running_mean']
    found = [word for word in words[2:] if word not in ("_modules", "_parameters", "_buffers")]
    return ".".join(found) or None


def is_state(node: Node) -> bool:
    """Whether its value may be an automaton's state."""
    value = value_of(node)
    return (
        isinstance(value, Tensor)
        and not isinstance(value, torch.nn.Parameter)
        and 3 <= value.dim() <= 5
        and value.is_floating_point()
    )


def alike(a: Node, b: Node) -> bool:
    """Whether both are states of the same shape and dtype."""
    x, y = value_of(a), value_of(b)
    same = is_state(a) and is_state(b) and x.dtype == y.dtype
    return same and [str(length) for length in x.shape] == [str(length) for length in y.shape]


def writes(node: Node) -> bool:
    """Whether an operation may change its first argument in place."""
    name = operation(node)
    inplace = name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))
    return inplace or "out" in node.kwargs or bool(node.kwargs.get("inplace"))


def needs(node: Node, among: list[Node]) -> set[Node]:
    """Of some nodes those that a node is computed from, it among them, and those that write into these in place."""
    allowed, found, todo = set(among), set[Node](), [node]
    while todo:
        node = todo.pop()
        if node in allowed and node not in found:
            found.add(node)
            todo += [*node.all_input_nodes, *(user for user in node.users if writes(user))]
    return found
