"""Small colour images with their masks: a red blob with a yellow middle on noise, of several sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ncafast.tasks.segmentation import TrainConfig

Array = np.ndarray


def blob(seed: int) -> tuple[Array, Array]:
    """An image [H, W, 3] uint8 and its class numbers [H, W]: 1 the blob, 2 its middle."""
    random = np.random.default_rng(seed)
    height, width = 18 + seed % 3, 22 - seed % 4
    y, x = np.mgrid[:height, :width]
    away = np.hypot(y - random.uniform(6, height - 6), x - random.uniform(6, width - 6))
    labels = (away < 6).astype(np.uint8) + (away < 3)
    image = np.array([(200, 190, 210), (190, 60, 70), (210, 200, 60)], float)[labels]
    return np.clip(image + random.normal(0, 14, image.shape), 0, 255).astype(np.uint8), labels


def write_folders(folder: Path, count: int = 10) -> Path:
    """images/0.png ... and masks/0.png ... with 0, 100 and 200."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image, labels = blob(number)
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(100 * labels).save(folder / "masks" / f"{number}.png")
    return folder


def tiny(data: Path, out: Path, **options: object) -> TrainConfig:
    """A run of 2 x 2 steps (of 8 images) that takes a moment."""
    plain: dict[str, object] = {"crop": 16, "scales": (2, 1), "steps": (5, 4), "state_channels": 8, "hidden": 12}
    plain |= {"epochs": 2, "batch_size": 4, "warmup": 2, "ema": 0.5, "pictures": 0, "threads": 1}
    plain |= {"tensorboard": False, "progress": False, "classes": ("blob=100", "middle=200")}
    return TrainConfig(data=data, output=out, **(plain | options))  # type: ignore[arg-type]
