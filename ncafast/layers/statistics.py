"""Running statistics of BatchNorm layers, updated as calling the layer once per step would."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def collects(norms: Sequence[nn.Module]) -> bool:
    """Whether a layer takes what it measures into its running statistics."""
    return any(isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats for layer in norms)


def follow(
    norms: Sequence[nn.Module],
    stats: Tensor,  # [T, 2, sum H]; with parameters per sample [B, T, 2, sum H]
    cells: int,
) -> None:
    """Take every step's mean and biased variance over `cells` cells into the statistics of the layers that collect
    them.

    Raises:
        ValueError: a layer collects statistics, and samples have parameters of their own.
    """
    if not collects(norms):
        return  # before no_grad, which torch.export would put into the graph
    if stats.dim() > 3:
        raise ValueError(
            "the norm collects running statistics, which parameters per sample do not have in common: call .eval() on "
            "it, or give every sample the same parameters"
        )
    _follow(norms, stats, cells)


@torch.no_grad()
def _follow(norms: Sequence[nn.Module], stats: Tensor, cells: int) -> None:
    widths = [layer.num_features for layer in norms if isinstance(layer, _BatchNorm)]
    for layer, found in zip(norms, stats.split(widths, dim=2), strict=True):
        assert isinstance(layer, _BatchNorm)
        if layer.training and layer.track_running_stats and layer.running_mean is not None:
            for mean, variance in found:
                _step(layer, mean, variance * (cells / max(cells - 1, 1)))


def _step(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    share: float | Tensor = 0.0 if layer.momentum is None else layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        if layer.momentum is None:
            share = 1.0 / layer.num_batches_tracked
    for buffer, value in ((layer.running_mean, mean), (layer.running_var, variance)):
        assert isinstance(buffer, Tensor)
        weight = share.to(buffer.dtype) if isinstance(share, Tensor) else share
        buffer.lerp_(value.to(buffer.dtype), weight)
