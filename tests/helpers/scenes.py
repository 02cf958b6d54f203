"""Small colour images with their depth: a floor that goes back into fog, and a ball in front of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ncafast.tasks.depth import TrainConfig

Array = np.ndarray


def scene(seed: int) -> tuple[Array, Array]:
    """An image [H, W, 3] uint8 and its depth [H, W] in metres."""
    random = np.random.default_rng(seed)
    height, width = 20 + seed % 3, 24 - seed % 2
    y, x = np.mgrid[:height, :width]
    depth = np.broadcast_to(0.8 / (y / height + 0.15), (height, width)).copy()
    colour = np.full((height, width, 3), (90.0, 140.0, 70.0))
    ball = np.hypot(y - random.uniform(6, height - 6), x - random.uniform(6, width - 6)) < 5
    depth[ball], colour[ball] = random.uniform(0.6, 1.0), (200, 60, 50)
    fog = np.exp(-depth / 3)[..., None]
    image = fog * colour + (1 - fog) * 230 + random.normal(0, 6, colour.shape)
    return np.clip(image, 0, 255).astype(np.uint8), depth


def write_folders(folder: Path, count: int = 10) -> Path:
    """rgb/0.png ... and depth/0.png ... in millimetres, 0 in a corner."""
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image, depth = scene(number)
        depth[:2, :3] = 0
        Image.fromarray(image).save(folder / "rgb" / f"{number}.png")
        Image.fromarray(np.rint(1000 * depth).astype(np.uint16)).save(folder / "depth" / f"{number}.png")
    return folder


def tiny(data: Path, out: Path, **options: object) -> TrainConfig:
    """A run of 2 x 2 steps (of 8 images) that takes a moment."""
    plain: dict[str, object] = {"crop": 16, "scales": (2, 1), "steps": (5, 4), "state_channels": 8, "hidden": 12}
    plain |= {"epochs": 2, "batch_size": 4, "warmup": 2, "ema": 0.5, "pictures": 0, "threads": 1}
    plain |= {"tensorboard": False, "progress": False}
    return TrainConfig(data=data, output=out, **(plain | options))  # type: ignore[arg-type]
