"""Gradients of a rollout that are summed over its tiles and passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ncafast.volume import boxes, moments
from ncafast.volume.boxes import Box
from ncafast.volume.measured import Found


class Gradients(NamedTuple):
    """Sums so far.

    Attributes:
        x: of a state, [B, C, *S]; None where it is not wanted.
        extra: of the extra channels, in their shape; None where it is not wanted.
        params: by name, in float64, of those that want one.
    """

    x: Tensor | None
    extra: Tensor | None
    params: dict[str, Tensor]


class Leaves(NamedTuple):
    """What the step of one tile is differentiated by.

    Attributes:
        params: all parameters.
        found: what was measured on the whole grid.
        sums: float64 sums, over the tiles of a pass, of the gradients of what was measured.
        x: the tile's state.
        extra: its extra channels.
    """

    params: dict[str, Tensor]
    found: Found
    sums: dict[str, Tensor]
    x: Tensor
    extra: Tensor | None

    @staticmethod
    def of(params: Mapping[str, Tensor], wanted: Mapping[str, Tensor], found: Found) -> Leaves:
        """Those that all tiles of a pass share."""
        pooled = None if found.pooled is None else leaf(found.pooled)
        measured = None if found.moments is None else moments.Moments(*map(leaf, found.moments))
        sums = {} if pooled is None else {"pooled": torch.zeros_like(pooled, dtype=torch.float64)}
        if measured is not None:
            sums |= {"mean": torch.zeros_like(measured.mean), "covariance": torch.zeros_like(measured.covariance)}
        own = {name: leaf(p, name in wanted) for name, p in params.items()}
        return Leaves(own, Found(pooled, measured), sums, torch.empty(0), None)

    def with_part(self, x: Tensor, extra: Tensor | None, total: Gradients) -> Leaves:
        """The same, and those of a tile."""
        extra = None if extra is None else leaf(extra, total.extra is not None)
        return self._replace(x=leaf(x, total.x is not None), extra=extra)

    def backward(self, outputs: Sequence[Tensor], grads: Sequence[Tensor], box: Box, total: Gradients) -> None:
        """Add what the outputs of the tile with this box pass on."""
        named = {"x": self.x, "extra": self.extra, "pooled": self.found.pooled}
        if self.found.moments is not None:
            named |= self.found.moments._asdict()
        named |= self.params
        wanted = {name: tensor for name, tensor in named.items() if tensor is not None and tensor.requires_grad}
        found = torch.autograd.grad(outputs, list(wanted.values()), grads, allow_unused=True)
        for name, grad in zip(wanted, found, strict=True):
            if grad is None:
                continue
            if name == "x":
                assert total.x is not None
                boxes.add(total.x, box, grad)
            elif name == "extra":
                assert total.extra is not None
                boxes.add(total.extra, _present(box, total.extra), grad)
            else:
                (self.sums if name in self.sums else total.params)[name].add_(grad)


def leaf(tensor: Tensor, wanted: bool = True) -> Tensor:
    """The same numbers, differentiated by if wanted."""
    return tensor.detach().requires_grad_(wanted)


def _present(box: Box, extra: Tensor) -> Box:
    """The box in extra channels, of which axes of length 1 stand for all cells."""
    sizes = extra.shape[extra.dim() - len(box.start) :]
    start = (lo if size > 1 else 0 for lo, size in zip(box.start, sizes, strict=True))
    stop = (hi if size > 1 else 1 for hi, size in zip(box.stop, sizes, strict=True))
    return Box(tuple(start), tuple(stop))
