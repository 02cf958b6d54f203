"""Which tile sizes a rollout's kernels have: measured ones where the user's GPU has any, else the fixed ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ncafast.backends import tuning
from ncafast.backends.triton_kernels import sizes
from ncafast.backends.triton_kernels.norm_kinds import KINDS
from ncafast.rule import Rule


class Choice(NamedTuple):
    """Tile sizes of a kernel.

    Attributes:
        key: its name and all that its speed hangs on, as `tuning` keeps it.
        tiles: the sizes.
        measured: whether they were measured.
    """

    key: str
    tiles: sizes.Tiles
    measured: bool


def choices(rule: Rule, x: Tensor, precision: str) -> dict[str, Choice]:
    """The tile sizes of the kernels that have any, by name.

    Args:
        rule: what the cells do.
        x: the state [B, C, *S].
        precision: of products.
    """
    p, hidden, layers = rule.perception_size, sizes.padded(max(rule.hidden)), len(rule.hidden)
    dense = rule.perception == "dense"
    widest = max(sizes.padded(rule.channels), sizes.padded(rule.dense_channels) if dense else 1)
    fixed = {
        "step": sizes.forward(p, hidden, widest, layers, dense),
        "mlp_backward": sizes.backward(p, hidden, widest, layers, dense, capability(x.device)),
        "sum_moments": sizes.moments(p, dense),
        "batch_norm_backward": sizes.moments(p, dense),
        "perception_backward": sizes.spread(widest),
    }
    if KINDS[rule.norm] != "none":
        fixed |= {name: sizes.beside_norm(fixed[name]) for name in ("step", "mlp_backward")}
    kernel = "x".join(map(str, filters(rule)))
    facts = f"C{rule.channels} P{p} H{hidden} x{layers} k{kernel} {rule.perception} {precision}"
    facts += "" if x.dtype == torch.float32 else f" {str(x.dtype).removeprefix('torch.')}"
    facts += "" if KINDS[rule.norm] == "none" else f" {KINDS[rule.norm]} norm"
    about = max(x.shape[0] * math.prod(x.shape[2:]) - 1, 0).bit_length()
    found = {}
    for name, tiles in fixed.items():
        key = f"{name} {facts} 2^{about} cells"
        measured = tuning.known(x.device, key, tiles)
        found[name] = Choice(key, measured or tiles, measured is not None)
    return found


def filters(rule: Rule) -> tuple[int, int, int]:
    """Filter sizes on three axes, 1 on those that are not there."""
    z, y, x = [1] * (3 - rule.ndim) + list(rule.kernel_size if rule.has_filters else [1] * rule.ndim)
    return z, y, x


def capability(device: torch.device) -> int:
    """The GPU's major compute capability; 9 for the interpreter."""
    return 9 if device.type == "cpu" else torch.cuda.get_device_capability(device)[0]
