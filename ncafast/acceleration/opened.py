"""The tensors in what a method returns: tuples, lists, dicts, named tuples and dataclasses are opened."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree


def opened(out: Any) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], Any], list[Any]]:
    """The tensors in a result, a way to put others in their place, and what else is in it."""
    if dataclasses.is_dataclass(out) and not isinstance(out, type):
        names = [field.name for field in dataclasses.fields(out)]
        tensors, rebuild, rest = opened([getattr(out, name) for name in names])

        def rebuilt(tensors: Sequence[Tensor]) -> Any:
            made = copy.copy(out)
            for name, value in zip(names, rebuild(tensors), strict=True):
                object.__setattr__(made, name, value)
            return made

        return tensors, rebuilt, rest
    leaves, spec = pytree.tree_flatten(out)

    def filled(tensors: Sequence[Tensor]) -> Any:
        new = iter(tensors)
        return pytree.tree_unflatten([next(new) if isinstance(t, Tensor) else t for t in leaves], spec)

    return [t for t in leaves if isinstance(t, Tensor)], filled, [t for t in leaves if not isinstance(t, Tensor)]
