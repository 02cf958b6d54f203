"""Holes in states: circles as growing NCA cuts them, rectangles as NCALab does. Any number of spatial axes."""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor


def damage(
    states: Tensor,  # [B, C, *S]
    kind: Literal["circles", "rectangles"],
    random: torch.Generator,
    *,
    least: float = 0.1,
    most: float = 0.4,
    keep: int = 0,
) -> Tensor:
    """A copy of the states in which each sample has one hole of zeros.

    Args:
        states: floating point, on any device.
        kind: a ball ("circles") or a box ("rectangles").
        random: a CPU generator; random positions and sizes.
        least, most: radius of a ball, or half of each side of a box, as shares of half the grid's sides. Defaults and
            the centre, which lies within the middle half of the grid, are those of growing NCA.
        keep: the first that-many channels (an image) stay as they are.

    Raises:
        ValueError: another kind, or shares outside 0 to 1.
    """
    if kind not in ("circles", "rectangles"):
        raise ValueError(f"damage kind={kind!r} is not allowed; give circles or rectangles")
    if not 0 <= least <= most <= 1:
        raise ValueError(
            f"damage from {least} to {most} is not allowed; give two shares from 0 to 1, the smaller first"
        )
    whole = holes(states.shape[0], tuple(states.shape[2:]), kind, random, least, most).to(states.device)
    hurt = states.clone()
    hurt[:, keep:] *= (~whole).to(states.dtype)
    return hurt


def holes(
    count: int, shape: tuple[int, ...], kind: str, random: torch.Generator, least: float, most: float
) -> Tensor:  # [count, 1, *S] bool, True inside the hole
    """One hole per sample."""
    axes = len(shape)
    centre = torch.rand(count, axes, generator=random) - 0.5  # -0.5 to 0.5 of a grid that reaches from -1 to 1
    size = least + (most - least) * torch.rand(count, axes, generator=random)
    distance = []  # of every cell from the centre along each axis, as a share of the hole's reach
    for axis, cells in enumerate(shape):
        position = torch.linspace(-1, 1, cells) if cells > 1 else torch.zeros(1)
        reach = size[:, 0] if kind == "circles" else size[:, axis]  # a circle is as wide as it is high
        offset = (position[None] - centre[:, axis, None]).abs() / reach[:, None].clamp_min(1e-6)
        distance.append(offset.reshape(count, 1, *(cells if k == axis else 1 for k in range(axes))))
    if kind == "circles":
        return sum((d.square() for d in distance), start=torch.zeros(())) < 1
    return functools.reduce(torch.maximum, distance) < 1
