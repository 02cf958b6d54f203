"""FLOPs of a rollout, for `torch.utils.flop_counter.FlopCounterMode`.

They are what the same steps run layer by layer would count: each convolution and matrix product, of every cell and
every step, by torch's own formulas. Cells that do not fire count, states that backward computes again do not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import torch

from ncafast.rule import Rule, layer_name

_log = logging.getLogger("torch.utils.flop_counter")
_log.disabled, _before = True, _log.disabled  # without Triton its import logs a warning, also where nobody counts
from torch.utils.flop_counter import conv_backward_flop, conv_flop_count, register_flop_formula  # noqa: E402

_log.disabled = _before
_CONV_BACKWARD: Any = conv_backward_flop  # its wrapper takes other arguments than its type says


def register() -> None:
    """Have every FlopCounterMode that is made from now on count rollouts. The operators must exist."""
    register_flop_formula(torch.ops.ncafast.rollout)(forward)
    register_flop_formula(torch.ops.ncafast.rollout_backward)(backward)
    register_flop_formula(torch.ops.ncafast.rollout_members)(_members_forward)
    register_flop_formula(torch.ops.ncafast.rollout_members_backward)(_members_backward)


class _Layer(NamedTuple):
    """A convolution of one step; `copies` of it run side by side."""

    name: str
    inputs: int
    weight: tuple[int, ...]  # as torch.nn.functional.conv*d takes it
    sizes: tuple[int, ...]  # spatial, of input and output
    copies: int = 1


def forward(
    x_shape: Sequence[int],
    params: Any,
    extra: Any,
    fire_mask: Any,
    seed: Any,
    rule: str,
    backend: str,
    steps: int,
    *plan: Any,
    **outputs: Any,
) -> int:
    """FLOPs of `ncafast::rollout`, whose arguments these are, with shapes instead of tensors."""
    batch, _, *sizes = x_shape
    layers = _layers(Rule.from_json(rule), sizes)
    return steps * sum(_forward(layer, batch) for layer in layers)


def backward(
    grad_out: Any,
    grad_history: Any,
    x_shape: Sequence[int],
    history: Any,
    tape: Any,
    params: Any,
    extra: Any,
    fire_mask: Any,
    seed: Any,
    rule: str,
    backend: str,
    steps: int,
    *plan_and_needs: Any,
    **outputs: Any,
) -> int:
    """FLOPs of `ncafast::rollout_backward`, likewise."""
    if steps == 0 or (grad_out is None and grad_history is None):
        return 0
    parsed, needs = Rule.from_json(rule), plan_and_needs[-1]
    need_x, need_extra, *need_params = needs
    needed = dict(zip(parsed.param_shapes(), need_params, strict=True))
    batch, _, *sizes = x_shape
    first = _backward(parsed, batch, sizes, needed, need_x, need_extra)
    # Every state but the first depends on all that has a gradient.
    later = _backward(parsed, batch, sizes, needed, True, need_extra)
    return first + (steps - 1) * later


def _members_forward(x_shape: Sequence[int], *rest: Any, **outputs: Any) -> int:
    return forward(_all_samples(x_shape), *rest, **outputs)


def _members_backward(grad_out: Any, grad_history: Any, x_shape: Sequence[int], *rest: Any, **outputs: Any) -> int:
    *most, apart, needs = rest
    return backward(grad_out, grad_history, _all_samples(x_shape), *most, needs, **outputs)


def _all_samples(x_shape: Sequence[int]) -> list[int]:
    """[G B, C, *S] of [G, B, C, *S]."""
    members, batch, *sizes = x_shape
    return [members * batch, *sizes]


def _layers(rule: Rule, sizes: Sequence[int]) -> Iterator[_Layer]:
    """All convolutions of a step, in order."""
    channels, cells = rule.channels, (prod(sizes),)
    if rule.has_filters:
        # Padding by values other than zero enlarges the input, which no formula looks at.
        dense = rule.perception == "dense"
        weight = (rule.dense_channels, channels) if dense else (channels, 1)
        copies = 1 if dense else rule.num_filters
        yield _Layer("perceive", channels, (*weight, *rule.kernel_size), tuple(sizes), copies)
    width = rule.perception_size
    for index, hidden in enumerate(rule.hidden):
        yield _Layer(layer_name("hidden", index), width, (hidden, width, 1), cells)
        width = hidden
    yield _Layer("update", width, (rule.hi - rule.lo, width, 1), cells)


def _forward(layer: _Layer, batch: int) -> int:
    into, out = _shapes(layer, batch)
    return int(layer.copies * conv_flop_count(into, [*layer.weight], out))


def _backward(rule: Rule, batch: int, sizes: Sequence[int], needed: dict[str, bool], state: bool, extra: bool) -> int:
    """FLOPs of one step's backward; `state` and `extra` say whether these inputs have a gradient."""
    total, flows = 0, state
    for layer in _layers(rule, sizes):
        if layer.name == "hidden":
            flows = flows or extra
        weight_needed = needed[f"{layer.name}.weight"]
        into, out = _shapes(layer, batch)
        if flows or weight_needed:
            shapes = (out, into, [*layer.weight])
            mask, results = (flows, weight_needed, False), (into, [*layer.weight], None)
            total += layer.copies * _CONV_BACKWARD(*shapes, None, 1, 0, 1, False, 0, 1, mask, out_val=results)
        flows = flows or any(needed.get(name, False) for name in _after(layer.name))
    return int(total)


def _after(name: str) -> Iterator[str]:
    """The parameters that a layer's activation depends on, beside its input."""
    yield from (f"{name}.weight", f"{name}.bias")
    if name.startswith("hidden"):
        norm = name.replace("hidden", "norm")
        yield from (f"{norm}.weight", f"{norm}.bias")


def _shapes(layer: _Layer, batch: int) -> tuple[list[int], list[int]]:
    return [batch, layer.inputs, *layer.sizes], [batch, layer.weight[0], *layer.sizes]
