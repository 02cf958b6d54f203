"""States of the automaton: the seed, the loss that judges them, and the cuts that hurt them."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Cut = Literal["left", "right", "top", "bottom", "centre"]
CUTS: tuple[Cut, ...] = get_args(Cut)


def seed_states(count: int, channels: int, height: int, width: int) -> Tensor:
    """[count, channels, height, width] float32: zeros, but for alpha and the hidden channels of the middle cell, which
    are 1 (Mordvintsev et al., "Growing Neural Cellular Automata", Distill 2020)."""
    states = torch.zeros(count, channels, height, width)
    states[:, 3:, height // 2, width // 2] = 1.0
    return states


def pixel_loss(
    states: Tensor,  # [..., C, H, W]
    target: Tensor,  # [4, H, W] colours multiplied by alpha
) -> Tensor:  # [...]
    """Mean squared difference of red, green, blue and alpha, over all cells; of each state by itself."""
    return (states[..., :4, :, :] - target).square().mean((-1, -2, -3))


def cut_away(
    states: Tensor,  # [..., C, H, W]
    cut: Cut,
    target: Tensor,  # [4, H, W]
) -> Tensor:
    """A copy of the states with one half of the image, or a hole in its middle, set to 0.

    Halves are those of the rectangle that the image fills, not of the grid; the hole is a circle around its middle with
    a quarter of its longer side as radius.

    Raises:
        ValueError: another cut.
    """
    if cut not in CUTS:
        raise ValueError(f"cut={cut!r} is not allowed; there are {', '.join(CUTS)}")
    (top, bottom), (left, right) = (_extent(target[3].amax(axis)) for axis in (1, 0))
    rows = torch.arange(states.shape[-2], device=states.device)[:, None]
    columns = torch.arange(states.shape[-1], device=states.device)[None, :]
    middle_row, middle_column = (top + bottom - 1) / 2, (left + right - 1) / 2
    if cut == "centre":
        radius = max(bottom - top, right - left) / 4
        gone = (rows - middle_row) ** 2 + (columns - middle_column) ** 2 < radius**2
    else:
        gone = {
            "left": columns < middle_column,
            "right": columns > middle_column,
            "top": rows < middle_row,
            "bottom": rows > middle_row,
        }[cut]
    return states * (~gone).to(states.dtype)


def _extent(line: Tensor) -> tuple[int, int]:
    """The first index above 0, and one past the last."""
    filled = line.nonzero()
    return int(filled[0]), int(filled[-1]) + 1
