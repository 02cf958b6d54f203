"""What a measure of uncertainty returns: a map and a score per sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Read = Callable[[Any], Tensor]
Reduce = Literal["nqm", "mean", "max"]


class Uncertainty(NamedTuple):
    """How unsure a module is, in each cell and of each sample."""

    map: Tensor  # [B, ...] as the output
    score: Tensor  # [B]
    output: Tensor  # [B, ...]
    """The mean over runs or steps; of decisions, the last ones."""


class Moments:
    """Mean and variance of outputs that come a few at a time, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self._total: Any = 0
        self._squares: Any = 0

    def add(self, outputs: Tensor) -> None:
        """Outputs [n, ...], of n runs or steps."""
        outputs = outputs.double()
        self.count += len(outputs)
        self._total = self._total + outputs.sum(0)
        self._squares = self._squares + outputs.square().sum(0)

    @property
    def mean(self) -> Tensor:
        """The mean over all that was added."""
        return self._total / self.count  # type: ignore[no-any-return]

    @property
    def variance(self) -> Tensor:
        """The variance, divided by their number."""
        return (self._squares / self.count - self.mean.square()).clamp(min=0)


def quality(deviation: Tensor, mean: Tensor) -> Tensor:
    """NQM: the sum of the standard deviation divided by the sum of the mean, per sample; 0 where nothing was found.

    Kalkhof and Mukhopadhyay, "M3D-NCA: Robust 3D Segmentation with Built-in Quality Control" (MICCAI 2023), of
    probabilities (the published code takes logits, whose sum may be 0 or less).

    Args:
        deviation: over the runs, [B, ...].
        mean: over the runs, the same shape.

    Raises:
        ValueError: outputs below 0, which are no probabilities.
    """
    if (mean < 0).any():
        raise ValueError(
            "NQM is of probabilities, and some outputs are below 0; give read=torch.sigmoid where they are logits, or "
            "reduce='mean'"
        )
    spread, total = (each.flatten(1).sum(1, dtype=torch.float64) for each in (deviation, mean))
    return torch.where(total > 0, spread / total, 0.0)


def spread(moments: Moments, reduce: Reduce, dtype: torch.dtype) -> Uncertainty:
    """The standard deviation of what was added, [n, B, ...] each time, and its score.

    Args:
        moments: of the outputs.
        reduce: "mean" or "max" of the map; "nqm", see `quality`.
        dtype: of the result.
    """
    deviation, mean = moments.variance.sqrt(), moments.mean
    if reduce == "nqm":
        score = quality(deviation, mean)
    elif reduce in ("mean", "max"):
        score = deviation.flatten(1).mean(1) if reduce == "mean" else deviation.flatten(1).amax(1)
    else:
        raise ValueError(f"reduce={reduce!r} is not allowed: choose one of mean, max, nqm")
    return Uncertainty(*(each.to(dtype) for each in (deviation, score, mean)))


def first_output(output: Any) -> Tensor:
    """The tensor that a module returns, the first one of several."""
    tensor = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(tensor, Tensor):
        raise TypeError(f"the module returns a {type(tensor).__name__}; give read=, which makes it a tensor [B, ...]")
    return tensor
