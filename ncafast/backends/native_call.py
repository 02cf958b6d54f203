"""A call in numbers and pointers, by the names that csrc/bind.h reads: what the CPU and CUDA kernels are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ncafast import philox
from ncafast.alive import Alive
from ncafast.backends import extra_channels
from ncafast.backends.fusable import ACTIVATIONS, NORMS, PADDINGS
from ncafast.backends.plan import Call
from ncafast.rule import Rule

STATES = (torch.float32, torch.float16, torch.bfloat16)  # CUDA's, in the order of the enum; the CPU has the first one


def inputs(given: Call) -> dict[str, Any]:
    """All that a rollout reads."""
    rule, x, params, extra, fire_mask, seed, plan = given
    size = three_axes(x.shape[2:])
    cells = math.prod(size)
    call: dict[str, Any] = {
        "batch": x.shape[0],
        "size": size,
        "plan": (plan.steps, plan.first_step, plan.first_sample, plan.every, plan.kept),
        "rule": rule_numbers(rule),
        "state": STATES.index(x.dtype),
        "x": x.data_ptr(),
        "seed": seed.data_ptr(),
        "params": {name: p.data_ptr() for name, p in zip(rule.param_shapes(), params, strict=True)},
    }
    if fire_mask is not None:
        call["fire_mask"] = (fire_mask.data_ptr(), cells * fire_mask.shape[1], cells if fire_mask.shape[1] > 1 else 0)
    if extra is not None:
        call["extra"] = (extra.data_ptr(), *extra_channels.strides(rule, x, extra))
    return call


def three_axes(size: Sequence[int]) -> list[int]:
    """Sizes of three axes: those that are not there come first and are 1."""
    return [1] * (3 - len(size)) + list(size)


def gradients(
    rule: Rule, grad_x: Tensor | None, grad_extra: Tensor | None, grads: list[Tensor | None]
) -> dict[str, Any]:
    """Where the gradients go; grad_extra as `extra_channels.sums` makes it."""
    wanted: dict[str, Any] = {
        name: grad.data_ptr() for name, grad in zip(rule.param_shapes(), grads, strict=True) if grad is not None
    }
    wanted["x"] = 0 if grad_x is None else grad_x.data_ptr()
    if grad_extra is not None:
        per_step = grad_extra.stride(0) if grad_extra.shape[0] > 1 else 0
        wanted["extra"] = (grad_extra.data_ptr(), per_step, grad_extra.stride(1))
    return wanted


def _alive_numbers(alive: Alive) -> tuple[Any, ...]:
    return (
        alive.channel,
        alive.pool,
        alive.pre,
        alive.post,
        alive.threshold,
        alive.wrap,
        alive.gates == "update",
    )


def rule_numbers(rule: Rule) -> dict[str, Any]:
    """The rule, names of choices as their numbers in csrc/rollout.h; read only, since all calls share it."""
    return _numbers(rule.to_json())


@lru_cache(maxsize=256)
def _numbers(text: str) -> dict[str, Any]:
    rule = Rule.from_json(text)
    alive, restore = rule.alive, rule.restore or (0, 0)
    lo, hi = rule.clamp or (None, None)
    dense = rule.perception == "dense"
    return {
        "channels": rule.channels,
        "filters": rule.dense_channels if dense else rule.num_filters,
        "extra": rule.extra,
        "kernel": [1] * (3 - rule.ndim) + list(rule.kernel_size),
        "identity": rule.identity,
        "dense": dense,
        "hidden": list(rule.hidden),
        "mutable": (rule.lo, rule.hi),
        "restore": restore,
        "padding": PADDINGS.index(rule.padding),
        "activation": ACTIVATIONS.index(rule.activation),
        "dense_activation": ACTIVATIONS.index(rule.dense_activation),
        "update_activation": ACTIVATIONS.index(rule.update_activation),
        "norm": NORMS.index(rule.norm),
        "norm_groups": rule.norm_groups,
        "negative_slope": rule.negative_slope,
        "norm_eps": rule.norm_eps,
        "update_scale": rule.step_size / (rule.fire_rate if rule.fire_rescale else 1.0),
        "fire_limit": philox.threshold(rule.fire_rate),
        "keep_limit": philox.threshold(1.0 - rule.hidden_dropout),
        "keep_scale": 1.0 / (1.0 - rule.hidden_dropout),
        "alive": None if alive is None else _alive_numbers(alive),
        "pooled": (*rule.pooled_range, rule.pooled == "max"),
        "clamp": (-math.inf if lo is None else lo, math.inf if hi is None else hi),
    }
