"""Checkpoints of this task: a SelfClassifyingNCA and how long it was trained to run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from ncafast import checkpoint
from ncafast.models import SelfClassifyingNCA
from ncafast.tasks.selfclassify.idx import CLASSES
from ncafast.train.model_files import read_model

_MOST_STEPS = 1_000_000


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model in evaluation mode, and the most steps that training took at once."""

    model: SelfClassifyingNCA
    steps: int
    path: Path


def save_model(path: Path, model: SelfClassifyingNCA, steps: int, **facts: int) -> None:
    """Write a checkpoint; ``facts`` (epoch, step) are kept for people to read."""
    checkpoint.save(path, model, task="selfclassify", steps=str(steps), facts=json.dumps(facts))


def load_model(path: Path, device: torch.device) -> TrainedModel:
    """Read a checkpoint, or the best one of a run folder.

    Raises ValueError, one line that names the file, if it is none of this task or damaged.
    """

    def read(model: SelfClassifyingNCA, metadata: dict[str, str]) -> int:
        steps = int(metadata["steps"])
        if not 1 <= steps <= _MOST_STEPS:
            raise ValueError(f"steps={steps}")
        if model.ndim != 2 or model.channel_size <= CLASSES:
            raise ValueError(f"ndim={model.ndim}, channel_size={model.channel_size}")
        return steps

    return TrainedModel(*read_model(path, device, "selfclassify", (SelfClassifyingNCA,), read))
