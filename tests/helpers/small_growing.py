"""A short training to grow an image."""

from __future__ import annotations

from pathlib import Path

from ncafast.tasks.growing import TrainConfig


def options(image: Path, out: Path, **others: object) -> TrainConfig:
    """A small automaton on a grid of 10 x 10."""
    plain = {"size": 6, "padding": 2, "state_channels": 8, "hidden": 16, "steps": (5, 8), "batch_size": 4, "epochs": 2}
    plain |= {"pool_size": 8, "damage": 2, "damage_after": 1, "threads": 1, "tensorboard": False, "progress": False}
    return TrainConfig(image=image, output=out, **(plain | others))  # type: ignore[arg-type]
