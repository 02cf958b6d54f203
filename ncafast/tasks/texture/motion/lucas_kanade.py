"""Optical flow without weights: dense pyramidal Lucas-Kanade (Lucas and Kanade 1981; Bouguet 2000) on a torus."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SIGMA = 2.0  # of the Gaussian window, in pixels of each scale
_ROUNDS = 4  # warps per scale
_LEAST_SIDE = 16  # of the coarsest scale
_DAMPING = 1e-3  # share of the mean squared gradient: still regions without structure, where nothing can be told


def lucas_kanade(first: Tensor, second: Tensor) -> Tensor:
    """How far each pixel of `first` has moved in `second`.

    Args:
        first, second: grey or colour images [B, C, H, W] on a torus; the squared differences of all channels count.

    Returns:
        Flow [B, 2, H, W] in pixels, to the right and downwards: second(p + flow(p)) = first(p).
    """
    levels = [(first, second)]
    while min(levels[-1][0].shape[-2:]) // 2 >= _LEAST_SIDE:
        levels.append(tuple(F.avg_pool2d(image, 2, ceil_mode=True) for image in levels[-1]))  # type: ignore[arg-type]
    flow = first.new_zeros(first.shape[0], 2, *levels[-1][0].shape[-2:])
    for ours, theirs in reversed(levels):
        flow = _enlarged(flow, ours.shape[-2:])
        for _ in range(_ROUNDS):
            flow = flow + _correction(ours, warped(theirs, flow))
    return flow


def warped(image: Tensor, flow: Tensor) -> Tensor:
    """The image [B, C, H, W] on a torus, read bilinearly at p + flow(p); flow [B, 2, H, W] in pixels."""
    height, width = image.shape[-2:]
    x = torch.arange(width, device=image.device, dtype=image.dtype) + flow[:, 0]  # [B, H, W]
    y = torch.arange(height, device=image.device, dtype=image.dtype)[:, None] + flow[:, 1]
    left, top = x.floor(), y.floor()
    right, down = (x - left)[:, None], (y - top)[:, None]
    columns = [(left.long() + k).remainder(width) for k in (0, 1)]
    rows = [(top.long() + k).remainder(height) for k in (0, 1)]
    flat = image.flatten(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        indices = (row * width + column).flatten(1)[:, None].expand(-1, image.shape[1], -1)
        return flat.gather(2, indices).view_as(image)

    upper = at(rows[0], columns[0]) * (1 - right) + at(rows[0], columns[1]) * right
    lower = at(rows[1], columns[0]) * (1 - right) + at(rows[1], columns[1]) * right
    return upper * (1 - down) + lower * down


def _correction(ours: Tensor, theirs: Tensor) -> Tensor:
    """The least-squares solution of gradient . v = ours - theirs in a window around every pixel: [B, 2, H, W]."""
    mean = (ours + theirs) / 2
    dx = (mean.roll(-1, -1) - mean.roll(1, -1)) / 2
    dy = (mean.roll(-1, -2) - mean.roll(1, -2)) / 2
    gap = ours - theirs
    products = (dx * dx, dy * dy, dx * dy, dx * gap, dy * gap)
    xx, yy, xy, xt, yt = _window(torch.stack([term.sum(1) for term in products], 1)).unbind(1)
    damping = _DAMPING * (xx + yy).mean((-2, -1), keepdim=True) + 1e-12
    xx, yy = xx + damping, yy + damping
    area = xx * yy - xy * xy
    step = torch.stack([(yy * xt - xy * yt) / area, (xx * yt - xy * xt) / area], 1)
    return step / step.norm(dim=1, keepdim=True).clamp_min(1)  # a scale mends at most one of its pixels at a time


def _window(x: Tensor) -> Tensor:
    """x [B, C, H, W] smoothed by the Gaussian window, on the torus."""
    reach = min(round(3 * _SIGMA), *(side - 1 for side in x.shape[-2:]))
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    weights = (weights / weights.sum()).expand(x.shape[1], 1, -1)  # [C, 1, K]
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), "circular"), weights[:, :, None], groups=x.shape[1])
    return F.conv2d(F.pad(x, (0, 0, reach, reach), "circular"), weights[..., None], groups=x.shape[1])


def _enlarged(flow: Tensor, size: torch.Size) -> Tensor:
    """Flow at another scale, in that scale's pixels."""
    if flow.shape[-2:] == size:
        return flow
    ratio = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]]).view(1, 2, 1, 1)
    return F.interpolate(flow, size=size, mode="bilinear", align_corners=False) * ratio
