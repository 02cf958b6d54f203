"""How far images are from a sample as textures. Every loss is a module: (images [B, 3, H, W], generator) -> [B]."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ncafast.tasks.texture.loss.features import FeatureLoss
from ncafast.tasks.texture.loss.patches import PatchLoss
from ncafast.tasks.texture.loss.vgg import find_weights, unavailable
from ncafast.tasks.texture.options import Loss

TextureLoss = FeatureLoss | PatchLoss

__all__ = ["FeatureLoss", "PatchLoss", "TextureLoss", "choose", "make_loss"]


def choose(loss: Loss | str, weights: Path | None) -> tuple[Loss, Path | None]:
    """What "auto" stands for here, and the weights file of a feature loss.

    "auto" is "sliced" where VGG16 weights are given, or are in torch's cache and torchvision can be imported; else
    "patches".

    Raises:
        ValueError: a feature loss without weights, and the message says where they are looked for; or weights for a
            loss without any.
        ModuleNotFoundError: a feature loss, or given weights, without torchvision.
    """
    if loss == "patches":
        if weights is not None:
            raise ValueError(f"--loss patches takes no weights, got --weights {weights}; leave one of them out")
        return "patches", None
    found = find_weights(weights)
    reason = unavailable()
    if loss == "auto" and weights is None and (found is None or reason is not None):
        return "patches", None
    if found is None:
        raise ValueError(
            f"loss={loss} needs VGG16 weights, and there are none in torch's cache; give a file with --weights, put "
            "them there with `python -c \"import torchvision; torchvision.models.vgg16(weights='DEFAULT')\"`, "
            "or use --loss patches"
        )
    if reason is not None:
        raise ModuleNotFoundError(reason, name="torchvision")
    return ("gram" if loss == "gram" else "sliced"), found


def make_loss(sample: Tensor, loss: Loss | str, weights: Path | None) -> TextureLoss:
    """The loss against a sample [3, H, W] with values 0 to 1; `loss` and `weights` as `choose` returns them."""
    if loss == "patches" or weights is None:
        return PatchLoss(sample)
    return FeatureLoss(sample, weights, "gram" if loss == "gram" else "sliced")
