"""Dropout of hidden units: found between a layer's activation and the next layer, and taken out to measure the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.errors import NotAccelerated, arguments, at_node, operation
from ncafast.acceleration.firing import BERNOULLI, RANDOM, bernoulli_rate
from ncafast.acceleration.graph import GETITEM, StepGraph, source
from ncafast.rule import Rule, layer_name

_FUSED = "native_dropout"  # PyTorch's on GPUs: one operation
_AGREES = 1e-9


@dataclass(frozen=True)
class Drop:
    """One dropout."""

    drawn: Node  # its random numbers
    factor: Node | None  # what the units are multiplied by; None where the two are one operation

    def check(self, graph: StepGraph, tensors: Sequence[Tensor]) -> float:
        """The probability that a unit is dropped.

        Raises:
            NotAccelerated: units that stay are not divided by the probability that they do.
        """
        if self.factor is None:
            return float(arguments(self.drawn)[1])
        rate, like = bernoulli_rate(graph, self.drawn, tensors), self.drawn.meta["val"]
        ends = [torch.full(like.shape, value, dtype=torch.float64, device=like.device) for value in (0.0, 1.0)]
        off, on = (graph.evaluate(self.factor, {self.drawn: end}, tensors) for end in ends)
        if bool(off.any()) or float((on * rate - 1).abs().max()) > _AGREES:
            raise NotAccelerated(
                f"hidden units that stay are not divided by the probability that they do: {at_node(self.factor)}"
            )
        return 1.0 - rate


def drop_at(graph: StepGraph, node: Node) -> tuple[Node, Drop | None]:
    """What a dropout takes, and the dropout; the node itself where it is none."""
    if node.target is GETITEM and operation(arguments(node)[0]) == _FUSED:
        drawn = arguments(node)[0]
        return source(arguments(drawn)[0]), Drop(drawn, None)
    if operation(node) != "mul":
        return node, None
    moving = [part for part in node.all_input_nodes if part in graph.dependent]
    fixed = [part for part in node.all_input_nodes if part not in graph.dependent]
    drawn = [part for other in fixed for part in graph.ancestors(other) if operation(part) in RANDOM]
    if len(moving) != 1 or len(drawn) != 1 or operation(drawn[0]) not in BERNOULLI:
        return node, None
    if drawn[0].meta["val"].numel() != moving[0].meta["val"].numel():
        return node, None
    return source(moving[0]), Drop(drawn[0], fixed[0])


def dropout_of(graph: StepGraph, drops: Sequence[Drop | None], tensors: Sequence[Tensor]) -> float:
    """The dropout of all hidden layers.

    Raises:
        NotAccelerated: they differ.
    """
    rates = {0.0 if drop is None else round(drop.check(graph, tensors), 12) for drop in drops}
    if len(rates) > 1:
        raise NotAccelerated(f"the hidden layers drop units at different rates: {', '.join(map(str, sorted(rates)))}")
    return rates.pop()


def without_drops(drops: Sequence[Drop | None]) -> tuple[dict[Node, Tensor], list[Node]]:
    """What to feed and to skip when a graph is evaluated as if it dropped nothing."""
    feed, skip = {}, list[Node]()
    for drop in drops:
        if drop is not None and drop.factor is not None:
            like = drop.factor.meta["val"]
            feed[drop.factor] = torch.ones(like.shape, dtype=torch.float64, device=like.device)
        elif drop is not None:
            skip += [drop.drawn, *(user for user in drop.drawn.users if arguments(user)[1] == 0)]
    return feed, skip


def kept(name: str, out: Any, args: Sequence[Any]) -> Any:
    """The result of a draw of units when all of them stay, in place."""
    if name != _FUSED:
        return out.fill_(1.0)
    return out[0].copy_(args[0]).div_(1 - float(args[1])), out[1].fill_(True)


def scaled(rule: Rule, params: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters with which all units are divided by the probability that they stay, as `kept` has it."""
    behind = ["update.weight", *(f"{layer_name('hidden', k)}.weight" for k in range(1, len(rule.hidden)))]
    return params | {name: params[name] / (1 - rule.hidden_dropout) for name in behind}
