"""Fixed perception filters for 1, 2 and 3 axes, as one tensor per bank.

A filter is applied by cross-correlation, one copy per channel. Axis order of the gradients is x first: the last spatial
axis, then the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def identity(ndim: int) -> Tensor:
    """The cell itself. Returns [3, ...] with `ndim` axes, float32."""
    kernel = torch.zeros((3,) * ndim)
    kernel[(1,) * ndim] = 1.0
    return kernel


def sobel(ndim: int, axis: int = -1) -> Tensor:
    """Gradient along one spatial axis, smoothed by (1, 2, 1) along the others, scaled to a slope of 1 per cell.

    In 2-D this is Sobel / 8, the scale of growing NCA (Mordvintsev et al. 2020).

    Args:
        ndim: number of spatial axes.
        axis: the axis of the gradient; -1 is x, -2 is y.

    Returns:
        [3, ...] with `ndim` axes, float32.
    """
    smooth, slope = torch.tensor([1.0, 2.0, 1.0]) / 4.0, torch.tensor([-1.0, 0.0, 1.0]) / 2.0
    kernel = torch.ones(())
    for i in range(ndim):
        kernel = kernel[..., None] * (slope if i == axis % ndim else smooth)
    return kernel


def laplacian(ndim: int) -> Tensor:
    """Second derivative: smooth (1, 2, 1) / 4 in every axis, less the cell itself, times 4.

    In 2-D this is [[1, 2, 1], [2, -12, 2], [1, 2, 1]] / 4, the texture NCA's filter (Niklasson et al. 2021) over 4.

    Returns:
        [3, ...] with `ndim` axes, float32; its entries sum to 0.
    """
    kernel = torch.ones(())
    for _ in range(ndim):
        kernel = kernel[..., None] * (torch.tensor([1.0, 2.0, 1.0]) / 4.0)
    return 4.0 * (kernel - identity(ndim))


def gradients(ndim: int) -> list[Tensor]:
    """`sobel` along every axis, x first."""
    return [sobel(ndim, axis=-1 - i) for i in range(ndim)]


_BANKS: dict[str, Callable[[int], list[Tensor]]] = {
    "sobel": gradients,
    "laplacian": lambda ndim: [laplacian(ndim)],
    "identity": lambda ndim: [identity(ndim)],
}


def bank(names: str | Sequence[str], ndim: int) -> Tensor:
    """The filters of one or several names, stacked: [F, 3, ...].

    Args:
        names: "sobel" (one gradient per axis), "laplacian", "identity", or a sequence of these.
        ndim: number of spatial axes, 1 to 3.

    Raises:
        ValueError: an unknown name.
    """
    chosen = [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in _BANKS:
            raise ValueError(
                f"filters={name!r} is not known: choose from {', '.join(_BANKS)}, 'learned', or give a tensor"
            )
    return torch.stack([kernel for name in chosen for kernel in _BANKS[name](ndim)])
