"""From cached volumes to training batches: augmentation, padding, and the cubes that finer levels of a 3-D model see.

Samples of any size share a batch: they are padded at their ends to a common size that the coarsest level divides, and
`valid` tells the loss which cells are real. Slices are padded with zeros. Volumes repeat their last voxels, which keeps
the batch statistics near those of a volume alone, which is how volumes are segmented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncafast.models.cascade import Windows, cut, draw_windows
from ncafast.tasks.mednca.cache import CachedVolume
from ncafast.tasks.mednca.model_file import Model
from ncafast.tasks.mednca.options import TrainConfig
from ncafast.tasks.planes import augment, collate
from ncafast.utils.seeds import generator


@dataclass(frozen=True, slots=True)
class Batch:
    """Slices, or volumes, padded to one size."""

    image: Tensor  # [B, C, H, W] float32, of volumes [B, X, Y, Z, C]
    target: Tensor  # [B, K, *S] float32, one plane of 0 and 1 per class; of volumes what the finest windows show
    valid: Tensor  # [B, 1, *S] float32, 0 where padded
    windows: Windows | None = None  # of volumes

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(self.image.to(device), self.target.to(device), self.valid.to(device), self.windows)

    def logits(self, model: Model, **options: object) -> Tensor:
        """What the model says of it, [B, K, *S]."""
        if self.windows is None:
            return model(self.image, **options)  # type: ignore[no-any-return]
        logits: Tensor = model(self.image, windows=self.windows, **options)
        return logits.movedim(-1, 1)


class TrainingData:
    """All training slices, or whole volumes of a 3-D model, by number; `batch` pads some of them into one batch."""

    def __init__(self, volumes: Sequence[CachedVolume], config: TrainConfig, classes: int) -> None:
        self._config, self._classes = config, classes
        self._samples: list[tuple[CachedVolume, int | slice]] = [
            (volume, index)
            for volume in volumes
            for index in (range(len(volume)) if config.dims == 2 else [slice(None)])
            if not config.skip_empty or np.any(np.array(volume.foreground)[index])
        ]

    def __len__(self) -> int:
        return len(self._samples)

    def batch(self, epoch: int, start: int, numbers: Sequence[int]) -> Batch:
        """The samples of these numbers, augmented as their epoch and their positions in it, from ``start`` on, say."""
        config = self._config
        dice = [generator("augment", config.seed, epoch, start + k) for k in range(len(numbers))]
        samples = [self._sample(number, random) for number, random in zip(numbers, dice, strict=True)]
        mode = "constant" if config.dims == 2 else "replicate"
        batch = Batch(*collate(samples, self._classes, config.scale ** (config.levels - 1), mode))
        if config.dims == 2:
            return batch
        assert config.crop is not None  # `filled`
        target, valid, levels = batch.target, batch.valid, config.levels
        real = [label.shape for _, label in samples]
        grid: dict[str, Any] = {"scale": config.scale, "levels": levels, "patch": (config.crop,) * 3}
        windows = draw_windows(target.shape[2:], real=real, generators=dice, **grid)
        if levels > 1:
            box = windows.starts[-1], windows.sizes[-1]
            target, valid = cut(target, *box), cut(valid, *box)
        return Batch(batch.image.movedim(1, -1), target, valid, windows)

    def _sample(self, number: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Image [C, *S] and class numbers [*S]."""
        volume, index = self._samples[number]
        images, labels = volume.read(index)
        if self._config.dims == 2:
            return augment(images[0], labels[0], random, self._config.crop, self._config.flip)
        return augment(images.movedim(1, 0), labels, random, None, self._config.flip)
