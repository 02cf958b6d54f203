"""How depth is judged: the training losses, and the usual measures in metres."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ncafast.losses import SSIM, SSIMLoss
from ncafast.tasks.cascades import Array

MEASURES = ("abs_rel", "rmse", "delta1", "delta2", "delta3", "ssim")
_LEAST = 6  # pixels of a side that SSIM's window needs
_SPREAD = 4.0  # of scaled logarithms: from -2 to 2 spreads lies nearly all depth


def measure(found: Array, true: Array) -> dict[str, float]:
    """Of metres [H, W], where the true ones are known (finite).

    Mean of |found - true| / true; root of the mean square of found - true; and the shares of pixels whose larger ratio,
    found / true or true / found, is below 1.25, 1.25^2 and 1.25^3.
    """
    known = np.isfinite(true)
    ours, theirs = found[known].astype(np.float64), true[known].astype(np.float64)
    ratio = np.maximum(ours / theirs, theirs / ours)
    shares = {f"delta{power}": float(np.mean(ratio < 1.25**power)) for power in (1, 2, 3)}
    errors = {"abs_rel": float(np.mean(np.abs(ours - theirs) / theirs))}
    return errors | {"rmse": float(np.sqrt(np.mean((ours - theirs) ** 2)))} | shares


def similarity(found: Array, true: Array) -> float:
    """SSIM of metres [H, W], whose range is that of the true ones; what is unknown is taken to be what was found.

    NaN where nothing is known, and for an image of less than 6 pixels on a side, which has no room for the window.
    """
    known = np.isfinite(true)
    if min(true.shape) < _LEAST or not known.any():
        return float("nan")
    most, least = float(true[known].max()), float(true[known].min())
    images = [torch.from_numpy(plane.astype(np.float32))[None, None] for plane in (found, np.where(known, true, found))]
    return float(SSIM(max(most - least, 1e-3))(*images))


def depth_losses(
    kind: str,
    found: Tensor,  # [B, 1, H, W] scaled logarithms
    target: Tensor,  # the same
    known: Tensor,  # [B, 1, H, W] 1 where the target is known
    image: Tensor,  # [B, 3, H, W] scaled
    ssim: float,
    smoothness: float,
) -> dict[str, Tensor]:
    """The losses that are added up, by name: of known pixels, of structure, and of slopes where the image has none."""
    away = found - target
    each = away.abs() if kind == "l1" else away.square()
    losses = {"depth_loss": (each * known).sum() / known.sum().clamp_min(1)}
    if ssim:
        # What is unknown is taken to be what was found, so that it has no structure of its own to miss.
        filled = torch.where(known > 0, target, found.detach())
        losses["ssim_loss"] = ssim * SSIMLoss(_SPREAD)(found, filled)
    if smoothness:
        losses["smoothness_loss"] = smoothness * slopes(found, image)
    return losses


def slopes(found: Tensor, image: Tensor) -> Tensor:
    """Mean |slope| of maps [B, 1, H, W], less where the image [B, 3, H, W] has an edge: times exp(-its mean |slope|).

    Godard et al., "Unsupervised Monocular Depth Estimation with Left-Right Consistency" (2017).
    """
    total = found.new_zeros(())
    for axis in (2, 3):
        edges = image.diff(dim=axis).abs().mean(1, keepdim=True)
        total = total + (found.diff(dim=axis).abs() * (-edges).exp()).mean()
    return total
