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
from ncafast.train.run_folder import find_checkpoint

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
    path = find_checkpoint(path)
    metadata = checkpoint.describe(path)
    if metadata.get("task") != "growing":
        raise ValueError(f"{path}: is a checkpoint, but not of ncafast train growing; give one that is")
    model = checkpoint.load(path, device).float()
    if not isinstance(model, GrowingNCA):
        raise ValueError(f"{path}: holds a {type(model).__name__}, not a GrowingNCA; give another checkpoint")
    try:
        target = Target.from_text(metadata["target"], int(metadata["padding"]))
        steps = int(metadata["steps"])
        if not 1 <= steps <= _MOST_STEPS:
            raise ValueError(f"steps={steps}")
        for name, tensor in model.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} holds NaN or infinite weights")
    except (ValueError, LookupError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: is damaged ({what}); give another checkpoint or train again") from error
    return TrainedModel(model, target, steps, metadata.get("regime", ""), path)
