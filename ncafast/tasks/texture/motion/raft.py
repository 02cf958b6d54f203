"""Optical flow by RAFT (Teed and Deng 2020) from torchvision, with weights that are already on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ncafast.tasks.texture.weights import fitting, read_weights, torchvision_models

_FILE = "raft_small_C_T_V2-01064c6d.pth"  # as torchvision calls Raft_Small_Weights.C_T_V2
_LEAST_SIDE = 128  # its pyramid needs 16 cells at an eighth of the size


def raft(weights: Path | None, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of two image batches [B, 3, H, W] on a torus, values 0 to 1, to the flow [B, 2, H, W] in pixels.

    Args:
        weights: a file of torchvision's raft_small weights; None takes torchvision's own from torch's cache.
        device: where to compute.

    Raises:
        ModuleNotFoundError: torchvision cannot be imported.
        ValueError: no such file, or one that does not fit.
    """
    models = torchvision_models("RAFT", "use --flow lucas-kanade")
    path = weights or Path(torch.hub.get_dir()) / "checkpoints" / _FILE
    if weights is None and not path.is_file():
        raise ValueError(
            f"--flow raft needs weights, and {path} is not there; give a file with --flow-weights, put it there with "
            "`python -c \"from torchvision.models.optical_flow import raft_small; raft_small(weights='DEFAULT')\"`, "
            "or use --flow lucas-kanade"
        )
    net = models.optical_flow.raft_small(weights=None)
    tensors = read_weights(path, "--flow-weights", "RAFT")
    where = f"--flow-weights {path}: "
    net.load_state_dict(fitting(tensors, net.state_dict(), where, "raft_small", "give its weights"))
    net = net.to(device).eval()

    def flow(first: Tensor, second: Tensor) -> Tensor:
        height, width = first.shape[-2:]
        rows, columns = _around(height), _around(width)  # of the images continued on their torus
        ours, theirs = (image[..., rows[:, None], columns] * 2 - 1 for image in (first, second))
        with torch.no_grad():
            whole: Tensor = net(ours, theirs)[-1]
        top, left = (len(rows) - height) // 2, (len(columns) - width) // 2
        return whole[..., top : top + height, left : left + width]

    return flow


def _around(side: int) -> Tensor:
    """Indices of a side with some margin, so that it is at least as long as RAFT needs, and a multiple of 8."""
    more = max(_LEAST_SIDE, -(-(side + 16) // 8) * 8) - side
    return torch.arange(-(more // 2), side + more - more // 2).remainder(side)
