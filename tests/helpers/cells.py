"""Small synthetic image sets of three classes: a disc, a ring and a bar, each in a colour of its own, in noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ncafast.tasks.classification import TrainConfig

CLASSES = ("bar", "disc", "ring")
Array = np.ndarray


def cell(kind: int, seed: int, size: int = 12) -> Array:
    """An image [size, size, 3] uint8 of one class."""
    random = np.random.default_rng([kind, seed])
    y, x = np.mgrid[:size, :size] - (size - 1) / 2 + random.uniform(-1, 1)
    radius = np.hypot(x, y)
    inside = (abs(y) < 1.5, radius < 0.35 * size, abs(radius - 0.35 * size) < 1.2)[kind]
    image = np.full((size, size, 3), 200.0)
    image[inside] = ((90, 60, 160), (200, 80, 80), (80, 150, 90))[kind]
    return np.clip(image + random.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def pixels(count: int, start: int = 0) -> tuple[Array, Array]:
    """`count` images of each class [N, 12, 12, 3] and their labels [N]."""
    labels = np.arange(3 * count) % 3
    return np.stack([cell(label, start + k) for k, label in enumerate(labels)]), labels


def write_folders(folder: Path, count: int = 6) -> Path:
    """bar/0.png ... disc/0.png ... ring/0.png ..."""
    for kind, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(cell(kind, number)).save(folder / name / f"{number}.png")
    return folder


def write_npz(path: Path, train: int = 8, val: int = 3, test: int = 0) -> Path:
    """As MedMNIST's: labels with a second axis."""
    content = {}
    for start, (part, count) in zip((0, 100, 200), {"train": train, "val": val, "test": test}.items(), strict=True):
        if count:
            content[f"{part}_images"], labels = pixels(count, start)
            content[f"{part}_labels"] = labels[:, None].astype(np.uint8)
    np.savez(path, **content)
    return path


def tiny(data: Path, out: Path, **options: object) -> TrainConfig:
    """A run of 2 x 6 steps (of 24 images) that takes a moment."""
    settings: dict[str, object] = {
        "size": 12,
        "state_channels": 6,
        "hidden": 8,
        "steps": (3, 4),
        "epochs": 2,
        "batch_size": 4,
        "augment": "quarter",
        "warmup": 2,
        "threads": 1,
        "pictures": 0,
        "tensorboard": False,
        "progress": False,
    }
    return TrainConfig(data=data, output=out, **(settings | options))  # type: ignore[arg-type]
