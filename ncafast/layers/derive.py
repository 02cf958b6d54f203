"""Layers -> Rule: the fields that the layers determine, and why a layer cannot be expressed by a Rule."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch

from ncafast.compiling import constant_result
from ncafast.layers.calls import note_global_hooks
from ncafast.layers.settings import Activation, Conv, Layers, Norm
from ncafast.rule import MAX_KERNEL, PADDINGS, Rule


def derive(rule: Rule, probability: float, layers: Layers) -> Rule:
    """`rule` with all fields that the layers determine, for cells that update with this probability.

    Raises:
        ValueError: a layer computes what no Rule can express; the message names it.
    """
    text, share = rule.to_json(), probability.hex()
    if torch.compiler.is_compiling():
        found = getattr(_compiled, _name(text, share, (layers,)))
    else:
        note_global_hooks()
        found = _cached(text, share, layers)
    if isinstance(found, str):
        raise ValueError(found)
    return found  # type: ignore[no-any-return]


class _Compiled:
    """Rules that compiled code takes, as attributes: since torch.compile guards each attribute by itself."""


_compiled = _Compiled()
_names: dict[Rule | str, str] = {}


@constant_result
def _name(rule: str, probability: str, layers: tuple[Layers]) -> str:
    """Where in `_compiled` the rule is: a constant for torch.compile, which cannot trace how a Rule is built. It guards
    the arguments where they are read. (A NamedTuple that is no element of a tuple arrives empty.)"""
    found = _cached(rule, probability, *layers)
    name = _names.setdefault(found, f"rule{len(_names)}")
    setattr(_compiled, name, found)
    return name


@lru_cache(maxsize=1024)
def _cached(text: str, probability: str, layers: Layers) -> Rule | str:
    rule = Rule.from_json(text)
    try:
        fields = dict(_fields(rule, layers))
    except ValueError as error:
        return str(error)
    try:
        return rule.replace(**fields, fire_rate=float.fromhex(probability))
    except ValueError as error:
        return f"layers: {error}"


def _fields(rule: Rule, layers: Layers) -> Iterator[tuple[str, Any]]:
    convs = [layer for layer in layers.filters if isinstance(layer, Conv)]
    if convs:
        yield from _perception(rule, convs, layers.axes or tuple(range(rule.ndim)))
    if layers.filters:
        yield "filter_bias", any(layer.bias for layer in layers.filters)
    for layer in (*layers.hidden, layers.update):
        if isinstance(layer, Conv):
            _check_pointwise(layer)
    widths = tuple(layer.outputs for layer in layers.hidden)
    if None not in widths:
        yield "hidden", widths
    if layers.norms:
        yield from _norm(layers.norms, widths if None not in widths else rule.hidden)
    yield "update_bias", layers.update.bias
    if layers.activation is not None:
        yield from _activation(layers.activation)


def _perception(rule: Rule, convs: list[Conv], axes: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """One convolution per channel stays that; any other becomes a dense one, with zeros between its groups."""
    first = convs[0]
    for layer in convs:
        _check_filters(layer)
        if layer.kernel_size != first.kernel_size or layer.padding_mode != first.padding_mode:
            raise ValueError(
                f"{layer.name} has kernel_size={layer.kernel_size}, padding_mode={layer.padding_mode!r}, but "
                f"{first.name} {first.kernel_size}, {first.padding_mode!r}; all filters of a rollout share them"
            )
    yield "kernel_size", tuple(first.kernel_size[axis] for axis in axes)
    yield "padding", first.padding_mode
    if rule.perception == "dense" or any(not c.groups == c.outputs == rule.channels for c in convs):
        yield "perception", "dense"
        yield "dense_channels", sum(layer.outputs for layer in convs)
    else:
        yield "num_filters", len(convs)


def _check_filters(layer: Conv) -> None:
    for size, stride, dilation in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True):
        if size % 2 == 0 or size > MAX_KERNEL:
            raise ValueError(
                f"{layer.name} has kernel_size={layer.kernel_size}; allowed are odd sizes, 1 to {MAX_KERNEL}"
            )
        if stride != 1:
            raise ValueError(f"{layer.name} has stride={layer.stride}; a step keeps the grid, so it must be 1")
        if dilation != 1 and size != 1:
            raise ValueError(
                f"{layer.name} has dilation={layer.dilation}, which a rollout cannot do; use dilation=1, with a larger "
                f"kernel (up to {MAX_KERNEL}) that is zero in between"
            )
    if layer.padding_mode not in PADDINGS:
        raise ValueError(f"{layer.name} has padding_mode={layer.padding_mode!r}; allowed are {', '.join(PADDINGS)}")
    half = tuple(size // 2 for size in layer.kernel_size)
    if _padding(layer, half) != half:
        raise ValueError(
            f"{layer.name} has padding={layer.padding} with kernel_size={layer.kernel_size}; a step keeps the grid, so "
            f"it must be {half}"
        )


def _check_pointwise(layer: Conv) -> None:
    nothing = (0,) * len(layer.kernel_size)
    if set(layer.kernel_size) != {1} or set(layer.stride) != {1} or _padding(layer, nothing) != nothing:
        raise ValueError(
            f"{layer.name} has kernel_size={layer.kernel_size}, stride={layer.stride}, padding={layer.padding}; here a "
            "rollout takes only kernel_size=1, stride=1, padding=0"
        )


def _padding(layer: Conv, same: tuple[int, ...]) -> tuple[int, ...] | None:
    """Cells per axis; None if there are not as many before as after."""
    if isinstance(layer.padding, str):
        return same if layer.padding == "same" else (0,) * len(same)
    if layer.padding_mode == "zeros":
        return tuple(layer.padding)
    before, after = layer.padding[::2], layer.padding[1::2]
    return tuple(reversed(before)) if before == after else None


def _norm(norms: tuple[Norm, ...], widths: tuple[int | None, ...]) -> Iterator[tuple[str, Any]]:
    first = norms[0]
    for layer, width in zip(norms, widths, strict=True):
        if layer._replace(name="", width=None) != first._replace(name="", width=None):
            raise ValueError(
                f"{layer.name} is another norm than {first.name}; all hidden layers of a rollout share one"
            )
        if layer.norm == "tracked":
            raise ValueError(
                f"{layer.name} is an InstanceNorm that collects running statistics, which a rollout cannot do in "
                "training; use track_running_stats=False, or put the layer into eval()"
            )
        if layer.width is not None and layer.width != (width,):
            raise ValueError(f"{layer.name} normalises over {layer.width}; a rollout can over the channels, ({width},)")
    yield "norm", first.norm
    if first.eps is not None:
        yield "norm_eps", float.fromhex(first.eps)
        yield "norm_affine", first.affine
    if first.groups is not None:
        yield "norm_groups", first.groups


def _activation(layer: Activation) -> Iterator[tuple[str, Any]]:
    number = None if layer.number is None else float.fromhex(layer.number)
    if layer.kind == "elu" and number != 1.0:
        raise ValueError(f"{layer.name} is an ELU with alpha={number}; a rollout takes alpha=1")
    if layer.approximate != "none":
        raise ValueError(f"{layer.name} is a GELU with approximate={layer.approximate!r}; a rollout takes 'none'")
    yield "activation", layer.kind
    if layer.kind == "leaky_relu":
        yield "negative_slope", number
