"""Parameters before training, as torch's layers draw theirs."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn

from ncafast.rule import Rule


def draw(parameters: Iterable[tuple[str, nn.Parameter]], rule: Rule, zero_init: bool) -> None:
    """Draw learned parameters: uniform in +-1/sqrt(fan in), norms at 1 and 0; the last layer zero, if asked for."""
    sizes = rule.param_shapes()
    for name, parameter in parameters:
        module, leaf = name.rsplit(".", 1)
        if module.startswith("norm"):
            nn.init.constant_(parameter, float(leaf == "weight"))
        elif module == "update" and zero_init:
            nn.init.zeros_(parameter)
        else:
            bound = 1 / math.sqrt(_fan_in(rule, module, sizes[f"{module}.weight"]))
            nn.init.uniform_(parameter, -bound, bound)


def _fan_in(rule: Rule, module: str, weight_shape: tuple[int, ...]) -> int:
    if module == "perceive" and rule.perception == "depthwise":
        return math.prod(weight_shape[2:])
    return math.prod(weight_shape[1:])
