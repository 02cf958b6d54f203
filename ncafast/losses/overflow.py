"""State beyond its bounds."""

from __future__ import annotations

from torch import Tensor, nn

from ncafast.values import number


def overflow(state: Tensor, limit: float = 1.0) -> Tensor:
    """Mean of |x - clip(x, -limit, limit)| over all channels and cells: state [B, C, *S] -> [B].

    It keeps a state bounded over thousands of steps (Niklasson et al., "Self-Organising Textures", Distill 2021).
    """
    return (state - state.clamp(-limit, limit)).abs().flatten(1).mean(1)


class OverflowLoss(nn.Module):
    """Mean of `overflow` over the samples of a state [B, C, *S].

    Args:
        limit: numbers from -limit to limit cost nothing.
    """

    def __init__(self, limit: float = 1.0) -> None:
        super().__init__()
        self.limit = number("limit", limit, 0.0)

    def forward(self, state: Tensor) -> Tensor:
        """State [B, C, *S] -> scalar."""
        return overflow(state, self.limit).mean()

    def extra_repr(self) -> str:
        """The options."""
        return f"limit={self.limit:g}"
