"""How training images are varied. Every choice comes from a generator, one for each image and training step.

Rotation by any angle is torchvision's. Where that cannot be imported (its wheel from PyPI does not fit a CPU-only build
of torch), quarter turns and mirror images are left, which need no interpolation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ncafast.tasks.classification.options import Augment
from ncafast.tasks.colours import tinted
from ncafast.utils.progress import say


def rotation_reason() -> str | None:
    """Why images cannot be rotated by any angle, or None if they can."""
    try:
        _torchvision()
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        return " ".join(str(error).split())[:160]
    return None


def resolve(augment: Augment) -> Augment:
    """The option with "auto" settled. Raises ValueError if torchvision is asked for and cannot be imported."""
    if augment not in ("auto", "rotate"):
        return augment
    reason = rotation_reason()
    if reason is None:
        return "rotate"
    remedy = "install the torchvision that fits your torch (pip install torchvision, from the same index)"
    if augment == "rotate":
        raise ValueError(f"augment=rotate needs torchvision ({reason}): {remedy}, or give --augment quarter")
    say(f"torchvision cannot be imported ({reason}), so training images are turned by quarter turns only; {remedy}")
    return "quarter"


def vary(
    images: Tensor,  # [B, 3, H, W] scaled: the mean colour is 0
    augment: str,
    jitter: float,
    random: torch.Generator,
) -> Tensor:  # [B, 3, H, W]
    """Turn, mirror and tint each image by itself. Corners that a rotation uncovers get the mean colour."""
    count = len(images)
    turns, flips = torch.rand(count, generator=random), torch.rand(count, generator=random) < 0.5
    if augment != "none":
        images = torch.where(flips.to(images.device)[:, None, None, None], images.flip(3), images)
        if augment == "rotate":
            rotate, bilinear = _torchvision()
            turned = [rotate(x, 360 * t, interpolation=bilinear) for x, t in zip(images, turns.tolist(), strict=True)]
        else:
            turned = [torch.rot90(x, int(4 * t), (1, 2)) for x, t in zip(images, turns.tolist(), strict=True)]
        images = torch.stack(turned)
    return tinted(images, jitter, random) if jitter else images


def views(images: Tensor, count: int) -> list[Tensor]:
    """The first `count` of the 8 turned and mirrored views of square images [B, C, S, S]."""
    return [torch.rot90(images.flip(3) if number > 3 else images, number % 4, (2, 3)) for number in range(count)]


def _torchvision() -> tuple[Any, Any]:
    from torchvision.transforms import InterpolationMode, v2

    return v2.functional.rotate, InterpolationMode.BILINEAR
