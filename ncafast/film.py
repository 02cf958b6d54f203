"""FiLM: scale and shift of hidden units per sample, as parameters per sample. No kernel knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ncafast import check
from ncafast.rule import Rule, layer_name


def with_film(
    rule: Rule,
    params: Mapping[str, Tensor],
    x: Tensor,  # [B, C, *S]
    film: Any,
) -> dict[str, Tensor]:
    """Put act(scale * norm(z) + shift) in place of act(norm(z)), in all hidden layers.

    Without a norm they become a linear layer for each sample, scale * W and scale * b + shift; with one, weight and
    bias of the norm.

    Args:
        rule: what one step does.
        params: tensors by name, checked.
        x: state.
        film: the pair (scale, shift), each [B, H], with all hidden layers side by side.

    Returns:
        The parameters.

    Raises:
        TypeError, ValueError: a wrong pair, or a rule whose norm mixes the samples or has no weight.
    """
    scale, shift = _check(rule, x, film)
    found = dict(params)
    layers = zip(scale.split(rule.hidden, 1), shift.split(rule.hidden, 1), strict=True)
    for number, (factor, offset) in enumerate(layers):
        affine = layer_name("hidden" if rule.norm == "none" else "norm", number)
        found[f"{affine}.bias"] = factor * params[f"{affine}.bias"] + offset
        rows = factor.unsqueeze(2) if rule.norm == "none" else factor
        found[f"{affine}.weight"] = rows * params[f"{affine}.weight"]
    return found


def _check(rule: Rule, x: Tensor, film: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(film, (tuple, list)) or len(film) != 2:
        raise TypeError(f"film must be a pair (scale, shift) of tensors [B, H], got {type(film).__name__}")
    shape = [x.shape[0], sum(rule.hidden)]
    for name, tensor in zip(("film scale", "film shift"), film, strict=True):
        check.check_tensor(name, tensor, x)
        if list(tensor.shape) != shape:
            raise ValueError(
                f"{name} has shape {list(tensor.shape)}; allowed is [B={shape[0]}, H={shape[1]}], "
                "a number for each sample and hidden unit"
            )
    if rule.norm != "none" and not rule.norm_affine:
        raise ValueError(
            f"film= becomes weight and bias of the norm, so norm={rule.norm!r} needs norm_affine=True: ones and zeros "
            "change nothing"
        )
    if rule.norm == "batch":
        raise ValueError(
            "film= gives each sample weights of its own, and norm='batch' takes statistics over all samples; use norm "
            "'instance', 'group', 'layer' or none, or norm='running' in evaluation (.eval())"
        )
    return film[0], film[1]
