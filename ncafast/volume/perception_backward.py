"""The gradient of a perception by the CPU's kernels, several times quicker than by PyTorch's convolutions there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ncafast.backends import cpu
from ncafast.perception import perception
from ncafast.rule import Rule
from ncafast.trace import Options, trace_at_once

Gradient = tuple[Tensor, Tensor | None, dict[str, Tensor]]


def perception_backward(
    x: Tensor,  # [B, C, *S]
    rule: Rule,
    params: Mapping[str, Tensor],
    extra: Tensor | None,
    grad: Tensor,  # [B, P, *S]
) -> Gradient:
    """The gradients of x, of extra, and of the filters by name."""
    one = Rule(
        channels=rule.channels,
        ndim=rule.ndim,
        identity=False,
        num_filters=1,
        kernel_size=rule.kernel_size,
        filter_bias=rule.filter_bias,
        padding=rule.padding,
        hidden=(rule.channels,),
        activation="identity",
        fire_rate=1.0,
    )
    if rule.perception != "depthwise" or not rule.has_filters or cpu.can_run(one, x):
        return _by_autograd(x, rule, params, extra, grad)
    c = rule.channels
    own, *parts = grad.split([c * rule.identity, *[c] * rule.num_filters, rule.extra], 1)
    grad_x = own.clone() if rule.identity else torch.zeros_like(x)
    filters: dict[str, list[Tensor]] = {name: [] for name in params if name.startswith("perceive.")}
    for number, part in enumerate(parts[:-1]):
        found_x, found = _of_filter(x, one, {name: params[name][number : number + 1] for name in filters}, part)
        grad_x += found_x
        for name, tensor in found.items():
            filters[name].append(tensor)
    grad_extra = None if extra is None else parts[-1].sum_to_size(extra.shape)
    return grad_x, grad_extra, {name: torch.cat(tensors) for name, tensors in filters.items()}


def _of_filter(x: Tensor, rule: Rule, filters: Mapping[str, Tensor], grad: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Of a step that adds to each channel what its filter gives: its gradient is that of the filter, and that of x."""
    unit, grad = torch.eye(rule.channels), grad.contiguous()
    leaves = {name: p.detach().requires_grad_() for name, p in {"x": x, **filters}.items()}
    layers = {"hidden.weight": unit, "hidden.bias": torch.zeros(rule.channels), "update.weight": unit}
    params = {name: leaves[name] for name in filters} | layers
    with torch.enable_grad():
        out = trace_at_once(leaves["x"], rule, params, 1, Options(seed=0, backend="cpu")).out
    found_x, *found = torch.autograd.grad(out, list(leaves.values()), grad)
    return found_x - grad, dict(zip(filters, found, strict=True))


def _by_autograd(x: Tensor, rule: Rule, params: Mapping[str, Tensor], extra: Tensor | None, grad: Tensor) -> Gradient:
    filters = [name for name in params if name.startswith("perceive.")]
    given = {"x": x, **({} if extra is None else {"extra": extra}), **{name: params[name] for name in filters}}
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in given.items()}
    with torch.enable_grad():
        own = {**params, **{name: leaves[name] for name in filters}}
        seen = perception(leaves["x"], rule, own, extra=leaves.get("extra"))
    found = dict(zip(leaves, torch.autograd.grad(seen, list(leaves.values()), grad), strict=True))
    return found["x"], found.get("extra"), {name: found[name] for name in filters}
