"""Optimal transport along random lines: how far two clouds of points are from each other.

The sliced Wasserstein distance of Rabin et al. (2011), as a texture loss in Heitz et al., "A Sliced Wasserstein Loss
for Neural Texture Synthesis" (2021).
"""

from __future__ import annotations

import torch
from torch import Tensor


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


def unit_directions(count: int, size: int, generator: torch.Generator) -> Tensor:
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
