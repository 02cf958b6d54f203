"""What keeps a state bounded over thousands of steps (Niklasson et al., "Self-Organising Textures", Distill 2021)."""

from __future__ import annotations

from torch import Tensor


def overflow(state: Tensor, limit: float = 1.0) -> Tensor:
    """Mean of |x - clip(x, -limit, limit)| over all channels and cells: state [B, C, *S] -> [B]."""
    return (state - state.clamp(-limit, limit)).abs().flatten(1).mean(1)
