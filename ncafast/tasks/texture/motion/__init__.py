"""How strongly a texture moves: the mean length of the optical flow from frame to frame.

Xu, Pajouheshgar and Suesstrunk, "Emergent Dynamics in Neural Cellular Automata" (arXiv 2404.06406): frames are 32 steps
apart, and the strength is the mean over all pixels and 100 frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from ncafast.tasks.texture.motion.lucas_kanade import lucas_kanade
from ncafast.tasks.texture.motion.raft import raft
from ncafast.tasks.texture.motion.spynet import spynet
from ncafast.tasks.texture.options import Flow

FlowOf = Callable[[Tensor, Tensor], Tensor]

__all__ = ["FlowOf", "lucas_kanade", "make_flow", "motion_strength"]


def make_flow(flow: Flow, weights: Path | None, device: torch.device) -> FlowOf:
    """The function that measures flow: two batches [B, 3, H, W], values 0 to 1 -> [B, 2, H, W] in pixels.

    Raises:
        ValueError: weights that are missing, not used or do not fit.
        ModuleNotFoundError: raft without torchvision.
    """
    if flow == "lucas-kanade":
        if weights is not None:
            raise ValueError(f"--flow lucas-kanade takes no weights, got --flow-weights {weights}; leave it out")
        return lucas_kanade
    return raft(weights, device) if flow == "raft" else spynet(weights, device)


def motion_strength(frames: Iterable[Tensor], flow: FlowOf) -> float:
    """Mean length of the flow between neighbouring frames, over pixels and pairs: pixels per frame.

    Args:
        frames: at least two images [B, 3, H, W]; values outside 0 to 1 are clipped.
        flow: see `make_flow`.

    Raises:
        ValueError: fewer than two frames.
    """
    total, pairs = 0.0, 0
    before: Tensor | None = None
    for frame in frames:
        frame = frame.clamp(0, 1)
        if before is not None:
            total += float(flow(before, frame).norm(dim=1).mean())
            pairs += 1
        before = frame
    if not pairs:
        raise ValueError("motion needs at least two frames")
    return total / pairs
