"""A module's tensors as safetensors holds them, and which of them are one and the same."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save as serialise
from torch import Tensor, nn

_MOST_HEADER = 100_000_000  # bytes; readers refuse longer ones


def stored(module: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The state_dict on the CPU, no two tensors sharing memory, and the keys that no such file can hold.

    Raises:
        ValueError: a tensor without numbers, or spread over processes.
    """
    tensors: dict[str, Tensor] = {}
    left_out: list[str] = []
    memory = set()
    for key, value in module.state_dict().items():
        if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized or value.is_nested:
            left_out.append(key)
            continue
        if value.is_meta:
            raise ValueError(f"{key} is on the meta device, which holds no numbers; give the module its weights first")
        if hasattr(value, "full_tensor"):
            raise ValueError(
                f"{key} is spread over processes; gather the weights, for example with "
                "torch.distributed.checkpoint.state_dict.get_model_state_dict and full_state_dict=True"
            )
        tensor = value.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        tensors[key] = tensor.clone() if address in memory else tensor  # the format refuses shared memory
        memory.add(address)
    return tensors, left_out


def packed(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The bytes of a safetensors file.

    Raises:
        ValueError: what the format cannot hold.
    """
    text = sum(len(key) + len(value) for key, value in metadata.items())
    if text > _MOST_HEADER:
        raise ValueError(f"the metadata has {text:,} characters; readers of safetensors take {_MOST_HEADER:,} at most")
    try:
        data: bytes = serialise(tensors, metadata=metadata)
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise ValueError(f"this cannot be written as safetensors: {' '.join(str(error).split())}") from None
    return data


def ties(module: nn.Module) -> dict[str, str]:
    """For every parameter that is the same one as an earlier one, its name and the earlier one's."""
    first: dict[int, str] = {}
    pairs = ((name, first.setdefault(id(p), name)) for name, p in module.named_parameters(remove_duplicate=False))
    return {name: earlier for name, earlier in pairs if name != earlier}


def tie(module: nn.Module, pairs: Any) -> None:
    """Make these parameters the same ones again. Raises ValueError or AttributeError if they do not fit."""
    if not isinstance(pairs, dict):
        raise ValueError(f"tied={str(pairs)[:80]}")
    for name, earlier in pairs.items():
        owner, _, leaf = name.rpartition(".")
        parameter = module.get_parameter(earlier)
        if module.get_parameter(name).shape != parameter.shape:
            raise ValueError(f"tied: {name} and {earlier} have different shapes")
        setattr(module.get_submodule(owner), leaf, parameter)
