"""Equal steps of a graph as a module with a loop, on any grid: what `accelerate` searches for a rule."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.fx import Node

from ncafast.acceleration.errors import operation
from ncafast.acceleration.graph import KEPT_STATISTICS, STATISTICS, named_tensors
from ncafast.acceleration.nodes import module_name, needs, value_of
from ncafast.acceleration.programs import Builder, Examples, Parts, Program
from ncafast.acceleration.segments import Chain

_STATISTICS = ("running_mean", "running_var")  # what `structure` and a match do not stand on


class Steps(nn.Module):
    """One step over and over: what is computed once before the loop, and a segment in the loop."""

    def __init__(
        self, once: Program, segment: Program, learned: Sequence[Tensor], held: Sequence[tuple[str, Tensor]]
    ) -> None:
        super().__init__()
        self.once, self.segment = once, segment
        for k, value in enumerate(learned):
            self.register_parameter(f"p{k}", nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad))
        for k, (name, value) in enumerate(held):
            self.register_module(f"b{k}", _Buffer(name, value.detach().clone()))

    def forward(self, x: Tensor, steps: int = 1) -> Tensor:
        """Run steps."""
        tensors = [*self.parameters(), *self.buffers()]
        shared = self.once([x, *tensors])
        for _ in range(steps):
            (x,) = self.segment([x, *tensors, *shared])
        return x


@dataclass
class Unrolled:
    """Steps as a module, and where in the graph its tensors are.

    Attributes:
        tensors: the nodes of the module's parameters and buffers, in that order.
        constants: those whose numbers may matter to a search, and so must stay what they are.
        key: the same text for the same steps.
        shape: of the user's state.
    """

    steps: Steps
    tensors: list[Node]
    constants: list[Node]
    key: str
    shape: tuple[int, ...]

    def in_users_words(self, reason: str) -> str:
        """A reason with the names that the user's module has for its tensors."""
        for node, (name, _) in zip(self.tensors, named_tensors(self.steps).items(), strict=True):
            theirs = module_name(node)
            for quote in "'`":
                if theirs is not None and f"{quote}{name}{quote}" in reason:
                    hint = KEPT_STATISTICS if theirs.endswith(STATISTICS) and KEPT_STATISTICS not in reason else ""
                    reason = reason.replace(f"{quote}{name}{quote}", f"{quote}{theirs}{quote}") + hint
        return reason


def rolled(chain: Chain, examples: Examples, channels: int, turned: bool) -> Unrolled:
    """The steps of a chain as a module.

    Args:
        chain: equal steps.
        examples: values of the graph's inputs and constants.
        channels: which axis of the state the channels are.
        turned: how equal lengths are told apart, see `Sizes`.

    Raises:
        NotAccelerated: a number in the graph cannot be read as a size.
    """
    segment = chain.segments[0]
    parts = _parts(chain.start, channels)
    before = _before(chain, segment, parts)
    used = dict.fromkeys(n for node in (*before, *segment) for n in (node, *node.all_input_nodes))
    others = [node for node in used if node in examples and node not in parts and node is not chain.start]
    tensors = [node for node in others if isinstance(examples[node], Tensor)]
    learned = [node for node in tensors if is_parameter(examples[node])]
    held = [node for node in tensors if node not in learned]
    builder = Builder(chain.start, [*learned, *held], examples, channels, turned)
    inside = set(segment)
    shared = [n for n in (*parts, *before) if inside.intersection(n.users) and builder.number(n) is None]
    once = builder.build(before, shared, parts)
    step = builder.build(segment, [chain.states[0]])
    names = [_statistic(node) or "value" for node in held]
    steps = Steps(
        Program(once),
        Program(step),
        [examples[n] for n in learned],
        [(s, examples[n]) for s, n in zip(names, held, strict=True)],
    )
    kinds = [(tuple(t.shape), t.dtype, t.device, t.requires_grad) for t in map(examples.__getitem__, (*learned, *held))]
    key = f"{builder.sizes.shape}\n{once}\n{step}\n{kinds}\n{names}"
    constants = [node for node, name in zip(held, names, strict=True) if name == "value" and node.op == "placeholder"]
    return Unrolled(steps, [*learned, *held], constants, key, builder.sizes.shape)


def is_parameter(value: Tensor) -> bool:
    """Whether a tensor is one whose numbers change all the time."""
    return isinstance(value, nn.Parameter) or value.requires_grad


class _Buffer(nn.Module):
    def __init__(self, name: str, value: Tensor) -> None:
        super().__init__()
        self.register_buffer(name, value)


def _parts(start: Node, channels: int) -> Parts:
    """The values that a state is put together from: axis, first channel and number of channels of each."""
    if operation(start) not in ("cat", "concat"):
        return {}
    given: dict[str, Any] = {**dict(zip(("tensors", "dim"), start.args, strict=False)), **start.kwargs}
    axis, ndim = given.get("dim", 0), len(value_of(start).shape)
    parts, low = dict[Node, tuple[int, int, int]](), 0
    for part in given["tensors"]:
        parts[part] = axis, low, int(value_of(part).shape[axis])
        low += parts[part][2]
    return parts if axis % ndim == channels % ndim else {}


def _before(chain: Chain, segment: Sequence[Node], known: Container[Node]) -> list[Node]:
    """What a segment needs that is computed before the loop, in order, and all that writes into it."""
    inside = set(segment)
    ahead: list[Node] = []
    for node in chain.start.graph.nodes:
        if node in inside:
            break
        if node.op not in ("placeholder", "get_attr") and node is not chain.start and node not in known:
            ahead.append(node)
    inputs = {n for node in segment for n in node.all_input_nodes}
    needed = set[Node]().union(*(needs(node, ahead) for node in inputs))
    return [node for node in ahead if node in needed]


def _statistic(node: Node) -> str | None:
    """`running_mean` or `running_var`, if that is all that a tensor is."""
    names = set()
    for user in node.users:
        places = [k for k, value in enumerate(user.args) if value is node]
        kinds = [name for name, value in user.kwargs.items() if value is node]
        kinds += [
            _STATISTICS[k - 1] if operation(user) in ("batch_norm", "instance_norm") and k in (1, 2) else ""
            for k in places
        ]
        names |= set(kinds)
    name = names.pop() if len(names) == 1 else ""
    return name if name in _STATISTICS else None
