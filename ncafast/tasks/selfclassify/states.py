"""States of the automaton: ten logits first, the image last, and which cells belong to the digit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncafast.tasks.selfclassify.idx import CLASSES

INK = 0.1  # a cell brighter than this is part of the digit, as for the model's alive mask


def brightness(
    images: np.ndarray[Any, Any],  # [N, H, W] uint8
) -> Tensor:  # [N, H, W] float32 from 0 to 1
    """Images as the automaton sees them."""
    return torch.from_numpy(images.astype(np.float32) / 255)


def fresh_states(images: Tensor, channels: int) -> Tensor:
    """[N, channels, H, W]: zeros, and the image [N, H, W] in the last channel."""
    states = images.new_zeros(len(images), channels, *images.shape[1:])
    states[:, -1] = images
    return states


def exchange(states: Tensor, images: Tensor) -> Tensor:
    """The states with other images [N, H, W] in them: cells that are ink in the new image keep their state, all others
    start from 0 (Randazzo et al., "Self-classifying MNIST Digits", Distill 2020)."""
    changed = states * ink(images)[:, None]
    changed[:, -1] = images
    return changed


def ink(images: Tensor) -> Tensor:
    """Which cells are part of the digit: bool, shaped as the images."""
    return images > INK


def logits(states: Tensor) -> Tensor:
    """[N, 10, H, W] of states [N, C, H, W]."""
    return states[:, :CLASSES]
