"""Reading the settings of a layer; a model gathers those of all its layers in a `Layers`.

Numbers with a point are read as text, by float.hex: torch.compile would make variables of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ncafast.layers.calls import check_call
from ncafast.rule import Rule

CONV: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BATCH: dict[int, type[_BatchNorm]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE: dict[int, type[_InstanceNorm]] = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Identity)


class Conv(NamedTuple):
    """A convolution."""

    name: str
    outputs: int
    bias: bool
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: Any
    """As forward uses it: cells per axis or text for zeros; for other modes before and after, last axis first."""
    padding_mode: str
    groups: int


class Dense(NamedTuple):
    """A matrix that is applied to the channels of every cell."""

    name: str
    outputs: int | None
    """None: the rule's own value."""
    bias: bool


class Norm(NamedTuple):
    """A norm of hidden values."""

    name: str
    norm: str
    """As the Rule calls it; or "tracked", which the Rule has no word for."""
    affine: bool = False
    eps: str | None = None
    groups: int | None = None
    width: tuple[int, ...] | None = None
    """What a LayerNorm normalises over."""


class Activation(NamedTuple):
    """An activation."""

    name: str
    kind: str
    number: str | None = None
    """negative_slope, or the alpha of ELU."""
    approximate: str = "none"


class Layers(NamedTuple):
    """The layers of one step."""

    filters: tuple[Conv | Dense, ...]
    """Side by side; of fixed filters none."""
    hidden: tuple[Conv | Dense, ...]
    norms: tuple[Norm, ...]
    """As many as hidden layers, or none if the model has none."""
    update: Conv | Dense
    activation: Activation | None = None
    axes: tuple[int, ...] | None = None
    """Which axis of the filters goes along each axis of the grid, if not the same one."""


def conv(name: str, layer: Any, ndim: int) -> Conv:
    """The settings of a convolution over `ndim` axes."""
    kind = CONV[ndim]
    check_call(name, layer, kind)
    if layer._conv_forward.__func__ is not kind._conv_forward:
        raise ValueError(f"{name} has a _conv_forward of its own, which a rollout does not call; use a {kind.__name__}")
    mode = layer.padding_mode
    padding = layer.padding if mode == "zeros" else tuple(layer._reversed_padding_repeated_twice)
    bias = layer.bias is not None
    outputs, kernel, groups = layer.out_channels, layer.kernel_size, layer.groups
    return Conv(name, outputs, bias, kernel, layer.stride, layer.dilation, padding, mode, groups)


def linear(name: str, layer: Any) -> Dense:
    """The settings of a linear layer."""
    check_call(name, layer, nn.Linear)
    return Dense(name, layer.out_features, layer.bias is not None)


def norm(name: str, layer: Any, ndim: int, *, per_cell: bool = False, described: bool = False) -> Norm:
    """The settings of a norm of hidden values in its present mode.

    Args:
        name: for messages.
        layer: BatchNorm, InstanceNorm (of `ndim` axes), GroupNorm or Identity.
        ndim: spatial axes.
        per_cell: whether LayerNorm is allowed too: the channels are the layer's last axis.
        described: "running" stands for a layer with running statistics in training too.
    """
    kinds = (_BATCH[ndim], nn.GroupNorm, _INSTANCE[ndim], nn.Identity)
    kind = check_call(name, layer, *kinds, nn.LayerNorm) if per_cell else check_call(name, layer, *kinds)
    if kind is nn.Identity:
        return Norm(name, "none")
    affine, eps = layer.weight is not None or layer.bias is not None, float(layer.eps).hex()
    if kind is nn.GroupNorm:
        return Norm(name, "group", affine, eps, layer.num_groups)
    if kind is nn.LayerNorm:
        return Norm(name, "layer", affine, eps, width=layer.normalized_shape)
    if kind is _BATCH[ndim]:
        stored = layer.running_mean is not None and layer.running_var is not None
        running = stored and (not layer.training or (described and layer.track_running_stats))
        return Norm(name, "running" if running else "batch", affine, eps)
    if not layer.track_running_stats:
        return Norm(name, "instance", affine, eps)
    return Norm(name, "tracked" if layer.training else "running", affine, eps)


def activation(name: str, layer: Any) -> Activation:
    """The settings of an activation."""
    kind = check_call(name, layer, *_ACTIVATIONS)
    if kind is nn.LeakyReLU:
        return Activation(name, "leaky_relu", float(layer.negative_slope).hex())
    if kind is nn.ELU:
        return Activation(name, "elu", float(layer.alpha).hex())
    if kind is nn.GELU:
        return Activation(name, "gelu", approximate=layer.approximate)
    return Activation(name, "silu" if kind is nn.SiLU else kind.__name__.lower())


def norm_layer(rule: Rule, width: int) -> nn.Module:
    """The layer that does the rule's norm, with `width` hidden values."""
    affine, eps, ndim = rule.norm_affine, rule.norm_eps, rule.ndim
    if rule.norm == "group":
        return nn.GroupNorm(rule.norm_groups, width, eps, affine)
    if rule.norm == "instance":
        return _INSTANCE[ndim](width, eps, affine=affine)
    if rule.norm == "layer":
        return nn.LayerNorm(width, eps, affine)
    return _BATCH[ndim](width, eps, affine=affine, track_running_stats=rule.norm == "running")
