"""Files of weights that the user brings: VGG16's, or an optical flow network's."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def read_weights(path: Path, option: str, network: str) -> dict[str, Tensor]:
    """The tensors of a file in torch's weights-only format, by name. Raises ValueError that names option and file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(
            f"{option} {path}: cannot be read ({error.strerror}); give a file of {network} weights"
        ) from error
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(
            f"{option} {path}: cannot be read: it is corrupt, or not what torch.save writes of tensors alone; "
            f"give a file of {network} weights"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{option} {path}: holds a {type(content).__name__}; give a file of {network} weights")
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def fitting(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str, network: str, advice: str
) -> dict[str, Tensor]:
    """The tensors that a network wants, by name. Raises ValueError, which begins with `where`, unless all fit."""
    for name, weight in wanted.items():
        shape = list(tensors[name].shape) if name in tensors else "missing"
        if shape != list(weight.shape):
            raise ValueError(f"{where}{name} is {shape}, {network} needs {list(weight.shape)}; {advice}")
    return {name: tensors[name] for name in wanted}
