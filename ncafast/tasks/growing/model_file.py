"""Checkpoints of this task: a GrowingNCA together with the image that it grows, so that a test or a film needs no
options."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from ncafast import checkpoint
from ncafast.models import GrowingNCA
from ncafast.tasks.growing.target import Target
from ncafast.train.model_files import read_model

_MOST_STEPS = 1_000_000


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model, its image, and the most steps that training took at once."""

    model: GrowingNCA
    target: Target
    steps: int
    regime: str
    path: Path


def save_model(path: Path, model: GrowingNCA, target: Target, steps: int, regime: str, **facts: int) -> None:
    """Write a checkpoint; ``facts`` (epoch, step) are kept for people to read."""
    checkpoint.save(
        path,
        model,
        task="growing",
        target=target.to_text(),
        padding=str(target.padding),
        steps=str(steps),
        regime=regime,
        facts=json.dumps(facts),
    )


def load_model(path: Path, device: torch.device) -> TrainedModel:
    """Read a checkpoint, or the best one of a run folder.

    Raises ValueError, one line that names the file, if it is none of this task or damaged.
    """

    def read(model: GrowingNCA, metadata: dict[str, str]) -> tuple[Target, int, str]:
        steps = int(metadata["steps"])
        if not 1 <= steps <= _MOST_STEPS:
            raise ValueError(f"steps={steps}")
        target = Target.from_text(metadata["target"], int(metadata["padding"]))
        return target, steps, metadata.get("regime", "")

    model, (target, steps, regime), path = read_model(path, device, "growing", (GrowingNCA,), read)
    return TrainedModel(model, target, steps, regime, path)
