"""The norm between a hidden layer and its activation: found in the graph, and named as a rule names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.errors import NotAccelerated, arguments, at_node, operation
from ncafast.acceleration.graph import KEPT_STATISTICS, StepGraph

_BATCH_NORMS = (
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
)
_NORMS = (*_BATCH_NORMS, "native_group_norm", "native_layer_norm")


@dataclass(frozen=True)
class Norm:
    """The norm of a rule's hidden layers."""

    kind: str = "none"
    eps: float = 1e-5
    affine: bool = True
    groups: int = 1


def is_norm(node: Node) -> bool:
    """Whether the node is a norm, of whatever kind."""
    return operation(node) in _NORMS


def norm_at(graph: StepGraph, node: Node | None, width: int) -> Norm:
    """The norm that a node is, for a hidden layer of that width.

    Raises:
        NotAccelerated: it normalises something else than the hidden units, or collects statistics.
    """
    if node is None:
        return Norm()
    name, args, batch = operation(node), arguments(node), graph.x.meta["val"].shape[0]
    if name == "native_layer_norm":
        _check(list(args[1]) == [width], "a layer norm", node)
        return Norm("layer", float(args[4]), _affine(args[2:4]))
    if name == "native_group_norm":
        samples, units, _, groups, eps = args[3:8]
        _check((samples, units) == (batch, width), "a group norm", node)
        return Norm("group", float(eps), _affine(args[1:3]), int(groups))
    kind, eps = _batch_norm(node)
    samples, units = args[0].meta["val"].shape[:2]
    by_sample = samples == 1 and units == batch * width  # PyTorch's way to instance norm
    _check(units == width or by_sample, "a batch or instance norm", node)
    return Norm("instance" if by_sample and kind == "batch" else kind, eps, _affine(args[1:3]))


def norm_parameters(
    graph: StepGraph, node: Node, norm: Norm, width: int, tensors: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Weight and bias [H] of a norm, and the statistics that it has stored."""
    args = arguments(node)
    first = 2 if operation(node) == "native_layer_norm" else 1
    parts = dict(zip(("weight", "bias"), args[first : first + 2], strict=True)) if norm.affine else {}
    if norm.kind == "running":
        parts |= {"running_mean": args[3], "running_var": args[4]}
    found = {
        name: graph.evaluate(part, {}, tensors).reshape(-1)[:width]  # an instance norm repeats them for each sample
        for name, part in parts.items()
        if part is not None
    }
    for name, value in (("weight", 1.0), ("bias", 0.0)):
        if name in parts and name not in found:
            found[name] = next(iter(found.values())).new_full((width,), value)
    return found


def _affine(parts: Sequence[Any]) -> bool:
    return any(part is not None for part in parts)


def _check(good: bool, what: str, node: Node) -> None:
    if not good:
        raise NotAccelerated(f"{what} normalises something else than the hidden units: {at_node(node)}")


def _batch_norm(node: Node) -> tuple[str, float]:
    name, args = operation(node), list(arguments(node))
    if name == "_native_batch_norm_legit_no_training":
        return "running", float(args[-1])
    training = bool(args[-3])
    has_statistics = len(args) == 8 and args[3] is not None
    if training and has_statistics:
        raise NotAccelerated(f"a batch norm collects running statistics in training: {at_node(node)}{KEPT_STATISTICS}")
    return "batch" if training else "running", float(args[-1])
