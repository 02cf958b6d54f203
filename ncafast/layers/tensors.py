"""The tensors of a step from the layers, as differentiable views where that is possible."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ncafast.rule import Rule, layer_name


def filters(rule: Rule, **convs: nn.Module) -> dict[str, Tensor]:
    """perceive.* from convolutions side by side, by name, as `derive` reads them."""
    weights = [_weight(layer) for layer in convs.values()]
    if len(weights) > 1:
        _check_alike(dict(zip(convs, weights, strict=True)))
    if rule.perception == "dense":
        full = [ungrouped(w, layer.groups) for w, layer in zip(weights, convs.values(), strict=True)]  # type: ignore[arg-type]
        weight = full[0] if len(full) == 1 else torch.cat(full)
    else:  # [C, 1, *k] each
        weight = weights[0].transpose(0, 1) if len(weights) == 1 else torch.stack(weights).squeeze(2)
    found = {"perceive.weight": weight}
    if rule.filter_bias:
        biases = [bias(layer, weight) for layer, weight in zip(convs.values(), weights, strict=True)]
        found["perceive.bias"] = torch.cat(biases) if rule.perception == "dense" else torch.stack(biases)
    return found


def matrix(layer: nn.Module) -> Tensor:
    """[outputs, inputs] of a linear layer or a pointwise convolution."""
    weight = _weight(layer)
    if weight.dim() == 2:
        return weight
    return ungrouped(weight, layer.groups).flatten(1)  # type: ignore[arg-type]


def bias(layer: nn.Module, weight: Tensor) -> Tensor:
    """The layer's bias, or the zeros that stand for none."""
    found = layer.bias
    return found if isinstance(found, Tensor) else weight.new_zeros(weight.shape[0])


def norm_tensors(rule: Rule, layer: nn.Module, number: int = 0) -> dict[str, Tensor]:
    """norm<number>.* from the norm layer of a hidden layer."""
    if rule.norm == "none":
        return {}
    name = layer_name("norm", number)
    found: dict[str, Tensor] = {}
    if rule.norm_affine:
        weight, offset = layer.weight, layer.bias
        found[f"{name}.weight"] = torch.ones_like(offset) if weight is None else weight  # type: ignore[arg-type,assignment]
        found[f"{name}.bias"] = torch.zeros_like(weight) if offset is None else offset  # type: ignore[arg-type,assignment]
    if rule.norm == "running":
        found[f"{name}.running_mean"] = layer.running_mean  # type: ignore[assignment]
        found[f"{name}.running_var"] = layer.running_var  # type: ignore[assignment]
    return found


def ungrouped(weight: Tensor, groups: int) -> Tensor:
    """[O, C / groups, *k] -> [O, C, *k], with zeros between the groups."""
    if groups == 1:
        return weight
    blocks = weight.unflatten(0, (groups, -1)).movedim(0, -1)  # [O / groups, C / groups, *k, groups]
    return torch.diag_embed(blocks, dim1=0, dim2=2).flatten(2, 3).flatten(0, 1)


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def _check_alike(weights: dict[str, Tensor]) -> None:
    """Tensors that are put together must not be promoted in silence."""
    (first, like), *others = weights.items()
    for name, weight in others:
        if weight.device != like.device:
            raise ValueError(f"{name} is on {weight.device}, but {first} is on {like.device}; move one of them")
        if weight.dtype != like.dtype and not torch.is_autocast_enabled(weight.device.type):
            raise TypeError(f"{name} is {weight.dtype}, but {first} is {like.dtype}; convert one of them")
