"""Digits that are bars, in the files of MNIST, and a short training on them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ncafast.tasks.selfclassify import TrainConfig


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Horizontal bars are zeros, vertical bars are ones, on 7 x 9 pixels."""
    random = np.random.default_rng(seed)
    images, labels = np.zeros((count, 7, 9), np.uint8), random.integers(0, 2, count).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column, length = random.integers(1, 3), random.integers(1, 4), random.integers(3, 5)
        high, wide = (1, length) if label == 0 else (length, 1)
        image[row : row + high, column : column + wide] = random.integers(120, 256)
    return images, labels


def options(data: Path, out: Path, **others: object) -> TrainConfig:
    plain = {"state_channels": 14, "perception": 16, "hidden": (16,), "steps": (4, 6), "batch_size": 8, "pool_size": 16}
    plain |= {
        "warmup": 0,
        "pool_after": 0,
        "fresh": 0.25,
        "mutate": 0.25,
        "epochs": 2,
        "val_count": 20,
        "threads": 1,
        "tensorboard": False,
        "progress": False,
    }
    return TrainConfig(data=data, output=out, **(plain | others))  # type: ignore[arg-type]
