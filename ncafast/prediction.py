"""Prediction: the state that a model came to, as views of its parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]


class Channels(NamedTuple):
    """Which channels of a state are the image, hidden, and what the model says of the image."""

    image: slice
    hidden: slice
    output: slice


@dataclass(frozen=True, eq=False)
class Prediction:
    """The state that a model came to, as views of its parts; NumPy arrays are fetched from a GPU once.

    Attributes:
        state: [B, C, *S], channels first whatever layout the model's own call has.
        channels: which of them are the image, hidden, and the output. Where a model does not say which channels are
            read, the output has none; where it changes the image itself, such as a growing one, both are the same.
        level_steps: steps that each sample took on each level, coarse to fine, [B, levels] int64.
        converged: whether each sample converged on each level, [B, levels]; None where that was not asked for.
        together: whether `converged` and the steps are the same of all samples, which share the statistics of a norm.
        head_prediction: what the model's head says of the state, such as logits [B, K]; None without one.
    """

    state: Tensor
    channels: Channels
    level_steps: Tensor
    converged: Tensor | None = None
    together: bool = False
    head_prediction: Tensor | None = None

    def __repr__(self) -> str:
        return f"Prediction(state {list(self.state.shape)} after {self.steps} steps)"

    @property
    def steps(self) -> int:
        """Steps of the sample that took most, on all levels together."""
        return int(self.level_steps.sum(1).max()) if len(self.level_steps) else 0

    @property
    def image_channels(self) -> Tensor:
        """[B, image channels, *S]."""
        return self.state[:, self.channels.image]

    @property
    def hidden_channels(self) -> Tensor:
        """[B, hidden channels, *S]."""
        return self.state[:, self.channels.hidden]

    @property
    def output_channels(self) -> Tensor:
        """[B, output channels, *S], as they are: logits, not probabilities."""
        return self.state[:, self.channels.output]

    @cached_property
    def state_np(self) -> Array:
        """`state` as an array; float32 where it is bfloat16, which NumPy does not have."""
        return _array(self.state)

    @property
    def image_channels_np(self) -> Array:
        """A view of `state_np`."""
        return self.state_np[:, self.channels.image]

    @property
    def hidden_channels_np(self) -> Array:
        """A view of `state_np`."""
        return self.state_np[:, self.channels.hidden]

    @property
    def output_channels_np(self) -> Array:
        """A view of `state_np`."""
        return self.state_np[:, self.channels.output]

    @cached_property
    def head_prediction_np(self) -> Array | None:
        """`head_prediction` as an array."""
        return None if self.head_prediction is None else _array(self.head_prediction)

    def cpu(self) -> Prediction:
        """The same with its tensors on the CPU."""
        head = None if self.head_prediction is None else self.head_prediction.cpu()
        return replace(self, state=self.state.cpu(), head_prediction=head)


def _array(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # type: ignore[no-any-return]
