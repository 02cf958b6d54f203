"""Reading a task's checkpoint: of which task it is, which model it holds, and whether it is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ncafast import checkpoint

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


def read_model(
    path: Path,
    device: torch.device,
    task: str,
    kinds: tuple[type[M], ...],
    read: Callable[[M, dict[str, str]], T],
) -> tuple[M, T, Path]:
    """The float32 model of a checkpoint, what `read` makes of it and its metadata, and the checkpoint's own path.

    Args:
        path: a checkpoint, or a run folder, of which the best one is taken.
        device: where the model goes.
        task: the task that must have written it.
        kinds: the models that it may hold.
        read: takes the model and the metadata; raises ValueError, KeyError, TypeError ... for what does not fit.

    Raises:
        ValueError: one line that names the file, if it is none of this task or corrupt.
    """
    path = checkpoint.find(path)
    metadata = checkpoint.describe(path)
    found = metadata.get("task")
    if found != task:
        kind = f"was written by ncafast train {found}" if found else "is a checkpoint, but of no task"
        raise ValueError(f"{path}: {kind}; give one of ncafast train {task}")
    model = checkpoint.load(path, device).float()
    if not isinstance(model, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{path}: holds a {type(model).__name__}, not a {names}; give another checkpoint")
    try:
        for name, tensor in model.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} holds NaN or infinite weights")
        return model, read(model, metadata), path
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: is corrupt ({what}); give another checkpoint or train again") from error
