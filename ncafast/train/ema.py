"""Weights averaged over the last steps, which are often better than the last ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """An exponential average of a model's floating-point parameters and buffers."""

    def __init__(self, model: nn.Module, keep: float) -> None:
        """`keep` is the share of the average that each step leaves; 0 does nothing at all."""
        self._keep, self._steps = keep, 0
        tensors = [*model.parameters(), *model.buffers()] if keep else []
        self._weights = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
        self._mean = [tensor.clone() for tensor in self._weights]

    @torch.no_grad()
    def follow(self) -> None:
        """Take in the model's present weights. Early steps average over fewer, so that the start is forgotten."""
        if self._weights:
            self._steps += 1
            keep = min(self._keep, self._steps / (self._steps + 9))
            torch._foreach_lerp_(self._mean, self._weights, 1 - keep)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The model has the averaged weights inside."""
        before = [tensor.clone() for tensor in self._weights]
        self._put(self._mean)
        try:
            yield
        finally:
            self._put(before)

    def state(self) -> dict[str, int | list[Tensor]]:
        """What a stopped run goes on with."""
        return {"steps": self._steps, "mean": self._mean}

    def load(self, state: dict[str, int | list[Tensor]]) -> None:
        """Take back what `state` gave."""
        steps, mean = state["steps"], state["mean"]
        if not isinstance(steps, int) or not isinstance(mean, list) or len(mean) != len(self._mean):
            raise ValueError("the averaged weights do not fit")
        self._steps = steps
        for tensor, found in zip(self._mean, mean, strict=True):
            tensor.copy_(found)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for tensor, value in zip(self._weights, values, strict=True):
            tensor.copy_(value)
