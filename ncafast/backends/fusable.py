"""Which rules the fused kernels take, whatever the device: the names that they know, and the limits they share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ncafast.rule import Rule

# What fused kernels have, in the order of the enums in csrc/rollout.h. A name that is added to ncafast/rule.py alone is
# reported as not fused. The norms are those of the CPU's kernels; the other backends name theirs.
PADDINGS = ("zeros", "reflect", "replicate", "circular")
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "identity")
NORMS = ("none", "batch", "running", "group", "instance", "layer")
MEASURED_NORMS = ("batch", "group", "instance")  # mean and variance are taken over cells of the current state
FUSED = {
    "perception": ("depthwise", "dense"),
    "padding": PADDINGS,
    "activation": ACTIVATIONS,
    "dense_activation": ACTIVATIONS,
    "update_activation": ACTIVATIONS,
    "norm": NORMS,
}
_MAX_LAYERS = 4


def can_fuse(rule: Rule, norms: Sequence[str] = NORMS) -> str | None:
    """Why no fused kernel takes this rule, on whatever device, or None.

    Args:
        rule: the step.
        norms: the norms that the backend has, where they are not those of the CPU.
    """
    for name, fused in (FUSED | {"norm": norms}).items():
        if getattr(rule, name) not in fused:
            return f"{name}={getattr(rule, name)!r} is not fused, only {', '.join(fused)} are"
    if rule.norm in MEASURED_NORMS and len(rule.hidden) > 1:
        return f"norm={rule.norm!r} with {len(rule.hidden)} hidden layers is not fused, only with one"
    if rule.noise != "none":
        return f"noise={rule.noise!r} is not fused"
    if len(rule.hidden) > _MAX_LAYERS:
        return f"{len(rule.hidden)} hidden layers are too many, at most {_MAX_LAYERS} are fused"
    dense = rule.dense_activation if rule.perception == "dense" else None
    if rule.negative_slope < 0 and "leaky_relu" in (rule.activation, rule.update_activation, dense):
        return f"leaky_relu with a negative_slope below 0 ({rule.negative_slope}) is not fused"
    return None


def too_large(cells: int, most: int) -> bool:
    """Whether there are as many cells as kernels cannot count. Not said while code is compiled or exported, which would
    write it down as a bound of the sizes: the operator asks again.
    """
    return not torch.compiler.is_compiling() and cells >= most


def cpu_only(rule: Rule) -> str | None:
    """Why no GPU kernel takes this rule, though the CPU's may, or None."""
    if rule.hidden_dropout > 0:
        return f"hidden_dropout={rule.hidden_dropout} is fused on the CPU only"
    if rule.update_activation != "identity":
        return f"update_activation={rule.update_activation!r} is fused on the CPU only"
    if rule.alive is not None and rule.alive.wrap:
        return "alive.wrap=True is fused on the CPU only"
    if rule.alive is not None and rule.alive.gates != "state":
        return f"alive.gates={rule.alive.gates!r} is fused on the CPU only"
    if rule.clamp is not None:
        return f"clamp={rule.clamp} is fused on the CPU only"
    if rule.pooled != "none":
        return f"pooled={rule.pooled!r} is fused on the CPU only"
    return None
