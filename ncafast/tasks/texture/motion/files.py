"""Weights files of optical flow networks."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor


def read_tensors(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a file in torch's weights-only format, by name. Raises ValueError that names the file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"{path}: cannot be read ({reason}); give a file of {what} weights") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path}: holds no plain set of tensors; give a file of {what} weights")
    return content
