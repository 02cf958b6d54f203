"""Optimal transport along random lines: how far two clouds of points are from each other.

The sliced Wasserstein distance of Rabin et al. (2011), as a texture loss in Heitz et al., "A Sliced Wasserstein Loss
for Neural Texture Synthesis" (2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ncafast.losses.arguments import floats
from ncafast.values import whole


class SlicedWassersteinLoss(nn.Module):
    """Squared sliced Wasserstein distance of feature vectors to those of a target, wherever they stand.

    Args:
        directions: lines that are drawn in every call.
    """

    def __init__(self, directions: int = 32) -> None:
        super().__init__()
        self.directions = whole("directions", directions, 1)

    def forward(
        self,
        features: Tensor,  # [B, D, *S]
        target: Tensor,  # [D, *S'], of any size
        generator: torch.Generator | None = None,
    ) -> Tensor:  # []
        """The mean over samples. `generator` is a CPU generator that draws the lines; None takes torch's own."""
        features, target = floats("features", features), floats("target", target)
        if features.dim() < 2 or target.dim() < 1 or len(target) != features.shape[1]:
            count = len(target) if target.dim() else 0
            fit = f"target of shape {list(target.shape)} has {count} features"
            raise ValueError(f"{fit}, which does not fit features [B, D, *S] of shape {list(features.shape)}")
        lines = unit_directions(self.directions, len(target), generator).to(features)
        clouds = features.reshape(*features.shape[:2], -1), target.reshape(len(target), -1).to(features)
        return sliced_wasserstein(*clouds, lines).mean()

    def extra_repr(self) -> str:
        """The options."""
        return f"directions={self.directions}"


def sliced_wasserstein(
    points: Tensor,  # [B, D, N]
    target: Tensor,  # [D, M]
    directions: Tensor,  # [K, D]
) -> Tensor:
    """Squared 2-Wasserstein distance [B] between the clouds' shadows on lines, the mean over `directions`.

    Differentiable in `points`; N and M may differ.
    """
    return wasserstein(directions @ points, directions @ target).mean(1)


def wasserstein(values: Tensor, target: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance [B, K] of numbers on a line: values [B, K, N] against target [K, M].

    With N = M it is the mean of (sorted value - sorted target)^2. Otherwise the target's quantile function Q is cut
    into N equal parts: the integral of (x_i - Q)^2 over part i is (x_i - its mean)^2 plus its variance, which is exact.
    Differentiable in `values`.
    """
    count = values.shape[-1]
    mean, spread = _parts(target.detach().sort(-1).values, count)  # [K, N], [K]
    return (values.sort(-1).values - mean).square().mean(-1) + spread


def unit_directions(count: int, size: int, generator: torch.Generator | None) -> Tensor:
    """Random directions [count, size] of length 1, on the CPU, every one as likely as any other."""
    drawn = torch.randn(count, size, generator=generator)
    return drawn / drawn.norm(dim=1, keepdim=True)


def _parts(ordered: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean [K, count] and mean variance [K] of a quantile function, given as [K, M] steps, in `count` equal parts."""
    steps = ordered.shape[-1]
    if steps == count:
        return ordered, ordered.new_zeros(ordered.shape[0])
    exact = ordered.double()
    edges = torch.arange(count + 1, device=ordered.device, dtype=torch.float64) * (steps / count)
    whole = edges.long().clamp(max=steps - 1)
    rest = edges - whole
    first, second = (_integral(exact**power, whole, rest) * (count / steps) for power in (1, 2))
    variance = (second - first.square()).clamp(min=0).mean(-1)
    return first.to(ordered.dtype), variance.to(ordered.dtype)


def _integral(heights: Tensor, whole: Tensor, rest: Tensor) -> Tensor:
    """Of steps [K, M] of width 1, between neighbouring places `whole + rest`: [K, count]."""
    below = torch.cat((heights.new_zeros(heights.shape[0], 1), heights.cumsum(-1)), -1)  # [K, M + 1]
    return (below[:, whole] + rest * heights[:, whole]).diff(dim=-1)
