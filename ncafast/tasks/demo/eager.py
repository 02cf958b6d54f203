"""One level of Med-NCA in plain PyTorch, step after step, as the notebook of MECLabTUDA/NCA-tutorial runs it.

This is what the demo measures ncafast against. It calls the model's own layers, so both have the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ncafast.models import NCA2D


def rollout(
    level: NCA2D,
    x: Tensor,  # [B, C, H, W]
    steps: int,
    fire_masks: Sequence[Tensor] | None = None,  # per step [B or 1, 1, H, W], 0 or 1
) -> Tensor:  # [B, C, H, W]
    """`steps` steps of `level` from the state x. Without masks each step draws its own."""
    for number in range(steps):
        seen = torch.cat([level.perception(x), x], dim=1)
        update = level.fc2(F.relu(level.bn(level.fc1(seen))))
        if fire_masks is None:
            uniform = torch.rand(x.shape[0], 1, *x.shape[2:], device=x.device)
            fired = (uniform <= level.fire_rate).float()
        else:
            fired = fire_masks[number].to(x.dtype)
        update = update * fired
        fixed = torch.zeros_like(x[:, : level.input_channels])
        x = x + torch.cat([fixed, update], dim=1)
    return x
