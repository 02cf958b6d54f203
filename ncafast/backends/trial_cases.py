"""What a trial runs: rules that between them reach the CUDA kernels' template instances, and inputs for a rule.

Inputs keep away from the places where rounding decides: hidden units lie far from the kink of their activation, alive
channels far from their threshold. So one bound on the largest error holds for every precision.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ncafast.rule import Alive, Rule

Size = tuple[int, ...]
_KINKED = ("relu", "leaky_relu")
_SIZES: dict[int, Size] = {1: (37,), 2: (13, 19), 3: (5, 7, 9)}  # no multiple of a tile, H != W
_TIMED: dict[int, tuple[int, Size]] = {1: (4, (9216,)), 2: (4, (96, 96)), 3: (1, (32, 32, 32))}  # batch, size


class Inputs(NamedTuple):
    """A rollout's tensors; shapes as `ncafast.rollout` takes them."""

    x: Tensor
    params: dict[str, Tensor]
    extra: Tensor | None
    weight: Tensor  # [T, B, C, *S] of the loss: a random sum over all states

    def of(self, state: torch.dtype, params: torch.dtype) -> Inputs:
        """The same with states, extra channels and loss in one dtype and parameters in another."""
        extra = None if self.extra is None else self.extra.to(state)
        values = {name: value.to(params) for name, value in self.params.items()}
        return Inputs(self.x.to(state), values, extra, self.weight.to(state))


def matrix() -> list[Rule]:
    """The fixed set for the CUDA backend, which has one verdict for all its rules."""
    growing = Rule(16, alive=Alive(3, 0.1))
    small: dict[str, Any] = {"channels": 8, "hidden": (32,)}
    return [
        # The published models, at their own widths: MaxNCA, Med-NCA, texture, growing, 3-D.
        Rule(16, filter_bias=True, padding="reflect", norm="batch", mutable=(3, 16)),
        Rule(16, filter_bias=True, padding="reflect", mutable=(3, 16)),
        Rule(16, num_filters=1, hidden=(64,), norm="batch", kernel_size=(7,), filter_bias=True, mutable=(1, 16)),
        Rule(16, num_filters=1, hidden=(64,), norm="batch", filter_bias=True, update_bias=True, mutable=(1, 16)),
        Rule(12, num_filters=4, hidden=(96,), identity=False, padding="circular"),
        growing,
        Rule(16, ndim=3, num_filters=1, hidden=(64,), norm="batch", filter_bias=True, mutable=(1, 16)),
        Rule(16, ndim=3, num_filters=1, hidden=(64,), kernel_size=(7,), norm="batch"),
        # Axes and paddings.
        *(Rule(**small, ndim=ndim, padding=padding) for ndim in (1, 2, 3) for padding in ("zeros", "circular")),
        *(Rule(**small, padding=padding, filter_bias=True, norm="batch") for padding in ("reflect", "replicate")),
        # Filter sizes and numbers.
        *(Rule(**small, kernel_size=(k,)) for k in (1, 5, 7)),
        *(Rule(**small, num_filters=f) for f in (0, 1, 3, 4)),
        Rule(**small, kernel_size=(1, 5), padding="circular"),
        # Widths: less than a tile of the products, exactly one, and the widest.
        Rule(1, hidden=(1,)),
        Rule(5, hidden=(7,), update_bias=True),
        Rule(17, hidden=(33,), num_filters=3, norm="batch"),
        Rule(32, hidden=(128,), num_filters=3),
        Rule(32, hidden=(128,), num_filters=3, norm="batch"),
        # Beyond those widths: many channels, two hidden layers, dense perceptions.
        Rule(64, hidden=(256,), filter_bias=True),
        Rule(9, hidden=(256, 130), norm="running", activation="gelu", alive=Alive(3, 0.1)),
        Rule(
            20,
            perception="dense",
            dense_channels=80,
            dense_activation="gelu",
            identity=False,
            filter_bias=True,
            hidden=(80,),
            update_bias=True,
            alive=Alive(19, 0.1),
            restore=(19, 20),
            extra=1,
        ),
        Rule(5, ndim=3, perception="dense", dense_channels=40, padding="reflect", hidden=(24, 17)),
        # Norms, alive masks, activations and the rest.
        Rule(**small, norm="running"),
        Rule(**small, norm="batch", norm_affine=False),
        Rule(**small, alive=Alive(0, 0.1, post=False)),
        Rule(**small, alive=Alive(1, 0.1, pool=5, pre=False), restore=(3, 5)),
        Rule(**small, alive=Alive(3, 0.1), norm="batch"),
        Rule(**small, restore=(2, 4), step_size=0.3),
        Rule(**small, extra=2, filter_bias=True),
        Rule(**small, fire_rate=1.0),
        Rule(**small, fire_rate=0.25, fire_rescale=True),
        *(Rule(**small, activation=name) for name in ("leaky_relu", "elu", "gelu", "silu", "tanh", "identity")),
    ]


def odd_size(rule: Rule) -> Size:
    """A small grid whose sides are no multiples of a tile's."""
    return _SIZES[rule.ndim]


def large_size(rule: Rule, multiprocessors: int) -> Size:
    """A grid of about 600 cells per multiprocessor and sample, so that every block takes several tiles."""
    side = round((600 * multiprocessors) ** (1 / rule.ndim)) | 1
    return (side, *[side + 2] * (rule.ndim - 1))


def timed_size(rule: Rule) -> tuple[int, Size]:
    """Batch and grid of the race."""
    return _TIMED[rule.ndim]


def make_inputs(rule: Rule, batch: int, size: Size, steps: int, device: torch.device) -> Inputs:
    """Random float32 inputs, the same on every device, none of them zero."""
    draw = torch.Generator().manual_seed(20)
    x = 0.5 * torch.randn(batch, rule.channels, *size, generator=draw)
    if rule.alive is not None:
        side = torch.where(torch.rand(batch, *size, generator=draw) < 0.15, 3.0, -3.0)
        x[:, rule.alive.channel] += rule.alive.threshold + side
    params = {name: _parameter(rule, name, shape, draw) for name, shape in rule.param_shapes().items()}
    extra = torch.randn(batch, rule.extra, *size, generator=draw) if rule.extra else None
    weight = torch.randn(steps, batch, rule.channels, *size, generator=draw)
    params = {name: value.to(device) for name, value in params.items()}
    return Inputs(x.to(device), params, None if extra is None else extra.to(device), weight.to(device))


def _parameter(rule: Rule, name: str, shape: Size, draw: torch.Generator) -> Tensor:
    module, leaf = name.split(".")
    value = torch.randn(shape, generator=draw)
    if leaf == "running_var":
        return value.abs() + 0.5
    if leaf == "running_mean":
        return 0.3 * value
    if module.startswith("norm") and leaf == "weight":
        return 0.5 + 0.05 * value
    normed = rule.norm != "none" and rule.norm_affine
    if leaf == "bias" and module.startswith("norm" if normed else "hidden") and rule.activation in _KINKED:
        side = torch.arange(shape[0]) % 2 * 2 - 1  # half of the units on, half of them off
        return 4.0 * side + 0.1 * value
    if len(shape) == 1 or leaf == "bias":
        return 0.1 * value
    depthwise = module == "perceive" and rule.perception == "depthwise"
    fan_in = math.prod(shape[2:] if depthwise else shape[1:])
    # Small updates keep the alive channels on their side; small deeper layers keep units away from the kink.
    scale = 0.05 if module == "update" else 0.1 if module.startswith("hidden") and module != "hidden" else 1.0
    return scale * value / fan_in**0.5
