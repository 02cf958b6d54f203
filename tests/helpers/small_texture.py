"""A texture of stripes, and a short training on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

from ncafast.tasks.texture import TrainConfig


def picture(path: Path, side: int = 40) -> Path:
    """Diagonal stripes in two colours, with a slow change of brightness."""
    place = np.add.outer(np.arange(side), np.arange(side + 8))
    image = np.where((place % 8 < 4)[..., None], (200, 120, 40), (40, 90, 160)) + place[..., None] % 16
    iio.imwrite(path, image.astype(np.uint8))
    return path


def tiny(image: Path, out: Path, **options: Any) -> TrainConfig:
    plain = {
        "size": 24,
        "grid": 16,
        "state_channels": 6,
        "hidden": 12,
        "pool_size": 6,
        "steps": (4, 6),
        "batch_size": 2,
    }
    plain |= {"epochs": 2, "epoch_length": 4, "lr": 5e-3, "threads": 1, "tensorboard": False, "progress": False}
    return TrainConfig(image=image, output=out, **(plain | {"loss": "patches"} | options))  # type: ignore[arg-type]
