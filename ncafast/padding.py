"""An image becomes a state: the channels behind it are filled with zeros or noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ncafast import check, philox
from ncafast.trace import drawn_seed
from ncafast.values import number, whole

MEAN, DEVIATION = 0.5, 0.225  # of the noise, as NCALab has it
_STEP = 2**32 - 1  # that no rollout reaches: its own noise is drawn from the same stream


def pad_input(
    x: Tensor,  # [B, image channels, *S]
    nca: Any,
    noise: bool = True,
    mean: float = MEAN,
    std: float = DEVIATION,
    *,
    seed: int | Tensor | None = None,
    first_sample: int = 0,
) -> Tensor:  # [B, C, *S]
    """Give an image the channels of a state, behind its own.

    Args:
        x: the image.
        nca: the automaton whose state it becomes, or C.
        noise: fill with Gaussian noise; otherwise with zeros.
        mean: of the noise.
        std: its standard deviation.
        seed: of the noise; None draws one from torch's generator. Each sample has its own, by its number.
        first_sample: number of the first sample.

    Returns:
        The state, in x's dtype.

    Raises:
        ValueError: an image that has more channels than the state.
    """
    check.check_floating("x", x)
    if x.dim() < 3:
        raise ValueError(f"x of shape {list(x.shape)} is no image: give [B, channels, *S]")
    channels = nca.rule.channels if hasattr(nca, "rule") else whole("nca", nca, 1)
    missing = channels - x.shape[1]
    if missing < 0:
        raise ValueError(f"x has {x.shape[1]} channels (shape {list(x.shape)}), and the state only {channels}")
    size = (len(x), missing, *x.shape[2:])
    if not noise:
        return torch.cat((x, x.new_zeros(size)), 1)
    mean, std = number("mean", mean), number("std", std, 0.0)
    start = drawn_seed(seed, x.device, True)
    where: dict[str, Any] = {"step": _STEP, "first_sample": first_sample, "dtype": x.dtype, "device": x.device}
    return torch.cat((x, philox.normal(len(x), missing, tuple(x.shape[2:]), start, **where) * std + mean), 1)
