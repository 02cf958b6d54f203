"""Losses and metrics as modules: overlap of masks, focal losses, structural similarity, clouds of features, bounds.

They need PyTorch alone, but for SSIM, which is that of torchmetrics (`pip install ncafast[tasks]`). Hard masks in NumPy
arrays are scored by the functions of `ncafast.losses.masks`.
"""

from ncafast.losses.dice import DiceBCELoss, DiceLoss, DiceScore
from ncafast.losses.focal import BinaryFocalLoss, FocalLoss
from ncafast.losses.overflow import OverflowLoss
from ncafast.losses.sliced import SlicedWassersteinLoss
from ncafast.losses.ssim import SSIM, SSIMLoss

__all__ = [
    "SSIM",
    "BinaryFocalLoss",
    "DiceBCELoss",
    "DiceLoss",
    "DiceScore",
    "FocalLoss",
    "OverflowLoss",
    "SSIMLoss",
    "SlicedWassersteinLoss",
]
