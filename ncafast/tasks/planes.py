"""Images and their label maps as a model learns them: random parts of them, in batches of one size, with one plane of
0 and 1 per class; and probabilities of classes as class numbers again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Planes(NamedTuple):
    """Images and their labels, padded to one size."""

    image: Tensor  # [B, C, *S] float32
    target: Tensor  # [B, K, *S] float32, 0 or 1
    valid: Tensor  # [B, 1, *S] float32, 0 where padded


def collate(samples: Sequence[tuple[Tensor, Tensor]], classes: int, multiple: int, mode: str = "constant") -> Planes:
    """Pad images [C, *s] and class numbers [*s] of different sizes into one batch; the image as ``mode`` says."""
    size = [padded_size(max(sides), multiple) for sides in zip(*(label.shape for _, label in samples), strict=True)]
    numbers = torch.arange(1, classes + 1, dtype=torch.uint8).view(-1, *[1] * len(size))
    images = [padded(image, size, mode) for image, _ in samples]
    planes = [padded((label == numbers).float(), size) for _, label in samples]
    valid = [padded(torch.ones(1, *label.shape), size) for _, label in samples]
    return Planes(torch.stack(images), torch.stack(planes), torch.stack(valid))


def augment(
    image: Tensor,  # [C, *S]
    label: Tensor,  # [*S]
    random: torch.Generator,
    crop: int | None,
    flip: bool,
    upright: bool = False,
) -> tuple[Tensor, Tensor]:
    """A random square of ``crop`` pixels (shorter sides stay whole), mirrored at random along every axis, or along the
    last one where it is to stay upright."""
    axes = range(-label.dim(), 0)
    if crop is not None:
        for axis in axes:
            size = min(crop, label.shape[axis])
            start = int(torch.randint(label.shape[axis] - size + 1, (), generator=random))
            image, label = image.narrow(axis, start, size), label.narrow(axis, start, size)
    if flip:
        for axis in axes[-1:] if upright else axes:
            if torch.rand((), generator=random) < 0.5:
                image, label = image.flip(axis), label.flip(axis)
    return image, label


def padded(image: Tensor, size: Sequence[int], mode: str = "constant") -> Tensor:
    """[C, *s] -> [C, *size], with zeros at the ends, or as another mode of `torch.nn.functional.pad` says."""
    ends = [whole - side for whole, side in zip(size, image.shape[-len(size) :], strict=True)]
    return F.pad(image[None], [part for end in reversed(ends) for part in (0, end)], mode=mode)[0]


def padded_size(size: int, multiple: int) -> int:
    """The next multiple."""
    return -(-size // multiple) * multiple


def decide(probability: Tensor) -> Tensor:
    """[S, K, H, W] probabilities -> [S, H, W] uint8 class numbers: the likeliest class above 0.5, else 0."""
    best, index = probability.max(dim=1)
    return torch.where(best > 0.5, index + 1, 0).to(torch.uint8)
