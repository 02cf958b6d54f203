"""From cached volumes to the training batches of a 3-D model: whole volumes for its coarsest level, random cubes for
the others.

Volumes of any size share a batch: they are padded by repeating their last voxels, to a common size that all levels
divide. Repeating keeps the batch statistics near those of a volume alone, which is how volumes are segmented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ncafast.models import M3DNCA
from ncafast.models.cascade import Windows, cut, draw_windows
from ncafast.tasks.mednca.cache import CachedVolume
from ncafast.tasks.mednca.data import padded_size
from ncafast.utils.seeds import generator


@dataclass(frozen=True, slots=True)
class PatchBatch:
    """Volumes padded to one size, and what the windows show of their labels."""

    image: Tensor  # [B, X, Y, Z, C] float32
    target: Tensor  # [B, K, *window] float32, one plane of 0 and 1 per class
    valid: Tensor  # [B, 1, *window] float32, 0 where padded
    windows: Windows

    def to(self, device: torch.device) -> PatchBatch:
        """The same batch on another device."""
        return PatchBatch(self.image.to(device), self.target.to(device), self.valid.to(device), self.windows)

    def logits(self, model: M3DNCA, **options: object) -> Tensor:
        """What the model says of the windows, [B, K, *window]."""
        found: Tensor = model(self.image, windows=self.windows, **options)
        return found.movedim(-1, 1)


class TrainingVolumes:
    """All training volumes, by number; `batch` makes a batch of some of them."""

    def __init__(
        self,
        volumes: Sequence[CachedVolume],
        *,
        classes: int,
        scale: int,
        levels: int,
        patch: int,
        seed: int,
        skip_empty: bool = False,
        flip: bool = False,
    ) -> None:
        self._volumes = [volume for volume in volumes if any(volume.foreground) or not skip_empty]
        self._classes, self._scale, self._levels, self._patch = classes, scale, levels, patch
        self._seed, self._flip = seed, flip

    def __len__(self) -> int:
        return len(self._volumes)

    def batch(self, epoch: int, start: int, numbers: Sequence[int]) -> PatchBatch:
        """The volumes of these numbers, mirrored and cut as their epoch and their positions in it, from ``start`` on,
        say."""
        dice = [generator("augment", self._seed, epoch, start + k) for k in range(len(numbers))]
        samples = [self._sample(number, random) for number, random in zip(numbers, dice, strict=True)]
        whole = self._scale ** (self._levels - 1)
        real = [tuple(label.shape) for _, label in samples]
        size = tuple(padded_size(max(sides), whole) for sides in zip(*real, strict=True))
        windows = draw_windows(
            size, scale=self._scale, levels=self._levels, patch=(self._patch,) * 3, real=real, generators=dice
        )
        values = torch.arange(1, self._classes + 1, dtype=torch.uint8)[:, None, None, None]
        target = torch.stack([_pad((label == values).float(), size, "constant") for _, label in samples])
        valid = torch.stack([_pad(torch.ones(1, *label.shape), size, "constant") for _, label in samples])
        if self._levels > 1:
            place = windows.starts[-1], windows.sizes[-1]
            target, valid = cut(target, *place), cut(valid, *place)
        image = torch.stack([_pad(image, size, "replicate") for image, _ in samples])
        return PatchBatch(image.movedim(1, -1), target, valid, windows)

    def _sample(self, number: int, dice: torch.Generator) -> tuple[Tensor, Tensor]:
        """Image [C, X, Y, Z] and class numbers [X, Y, Z]."""
        images, label = self._volumes[number].read(slice(None))
        image = images.movedim(1, 0)
        if self._flip:
            for axis in (-3, -2, -1):
                if torch.rand((), generator=dice) < 0.5:
                    image, label = image.flip(axis), label.flip(axis)
        return image, label


def _pad(volume: Tensor, size: tuple[int, ...], mode: str) -> Tensor:
    """[C, x, y, z] -> [C, *size], at the ends."""
    after = [big - small for big, small in zip(size, volume.shape[1:], strict=True)]
    return F.pad(volume[None], [part for more in reversed(after) for part in (0, more)], mode=mode)[0]
