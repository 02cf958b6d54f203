"""Networks of others: torchvision's, where it can be imported, and files of weights that the user brings."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def torchvision_models(what: str, instead: str) -> Any:
    """The module `torchvision.models`. Raises ModuleNotFoundError that says who needs it and what to do."""
    try:
        import torchvision.models
    except (ImportError, RuntimeError, OSError) as error:  # a torchvision built for another torch fails in many ways
        reason = " ".join(str(error).split())[:100]
        raise ModuleNotFoundError(
            f"{what} needs torchvision ({reason}); run: pip install 'ncafast[tasks]' (beside the CPU-only PyTorch, "
            f"install torchvision from the same index as PyTorch), or {instead}",
            name="torchvision",
        ) from error
    return torchvision.models


def read_weights(
    path: Path, option: str, network: str, names: Callable[[str], str | None] = lambda name: name
) -> dict[str, Tensor]:
    """The tensors of a file in torch's weights-only format; `names` gives their names here, or None for those to leave
    out. Raises ValueError that names option and file."""
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
    tensors = {names(str(name)): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    return {name: tensor for name, tensor in tensors.items() if name is not None}


def fitting(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str, network: str, advice: str
) -> dict[str, Tensor]:
    """The tensors that a network wants, by name. Raises ValueError, which begins with `where`, unless all fit."""
    for name, weight in wanted.items():
        shape = list(tensors[name].shape) if name in tensors else "missing"
        if shape != list(weight.shape):
            raise ValueError(f"{where}{name} is {shape}, {network} needs {list(weight.shape)}; {advice}")
    return {name: tensors[name] for name in wanted}
