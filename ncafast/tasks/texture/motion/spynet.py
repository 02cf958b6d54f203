"""Optical flow by SpyNet (Ranjan and Black, "Optical Flow Estimation Using a Spatial Pyramid Network", 2017).

Takes the weights of its PyTorch port (github.com/sniklaus/pytorch-spynet, such as network-sintel-final.pytorch), which
are free for research, not for commerce. The paper on emergent dynamics measures motion with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncafast.tasks.texture.weights import fitting, read_weights

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WIDTHS = (8, 32, 64, 32, 16, 2)
_LEVELS = 6
_LEAST_SIDE = 32  # a scale this small is not halved again
_KEY = re.compile(r"\w*?[bB]asic\.(\d)\.\w*?[bB]asic\.(\d)\.(weight|bias)")


class SpyNet(nn.Module):
    """A coarse-to-fine pyramid of small convolutional networks, each of which mends the flow of the one below it."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level() for _ in range(_LEVELS))
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Images [B, 3, H, W], values 0 to 1, sides that are multiples of 32 -> flow [B, 2, H, W] in pixels."""
        scales = [((first - self.mean) / self.std, (second - self.mean) / self.std)]
        while len(scales) < _LEVELS and max(scales[-1][0].shape[-2:]) > _LEAST_SIDE:
            scales.append((F.avg_pool2d(scales[-1][0], 2), F.avg_pool2d(scales[-1][1], 2)))
        height, width = scales[-1][0].shape[-2:]
        flow = first.new_zeros(first.shape[0], 2, height // 2, width // 2)
        for net, (ours, theirs) in zip(self.levels, reversed(scales), strict=False):
            flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            if flow.shape[-2:] != ours.shape[-2:]:  # an odd side lost a pixel when it was halved
                missing = [ours.shape[axis] - flow.shape[axis] for axis in (-1, -2)]
                flow = F.pad(flow, (0, missing[0], 0, missing[1]), "replicate")
            flow = flow + net(torch.cat([ours, _warped(theirs, flow), flow], 1))
        return flow


def spynet(weights: Path | None, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of two image batches [B, 3, H, W], values 0 to 1, to the flow [B, 2, H, W] in pixels.

    Raises ValueError if no file is given, or one that does not fit.
    """
    if weights is None:
        raise ValueError(
            "--flow spynet needs its weights; give the file with --flow-weights, or use --flow lucas-kanade"
        )
    net = SpyNet()
    tensors = read_weights(weights, "--flow-weights", "SpyNet", _name)
    advice = "give a file of its port to PyTorch, such as network-sintel-final.pytorch"
    net.load_state_dict(fitting(tensors, net.state_dict(), f"--flow-weights {weights}: ", "SpyNet", advice))
    net = net.to(device).eval()

    def flow(first: Tensor, second: Tensor) -> Tensor:
        height, width = first.shape[-2:]
        tall, wide = (-(-side // 32) * 32 for side in (height, width))
        with torch.no_grad():
            found = net(*(F.interpolate(image, (tall, wide), mode="bilinear") for image in (first, second)))
        found = F.interpolate(found, (height, width), mode="bilinear")
        return found * found.new_tensor([width / wide, height / tall]).view(1, 2, 1, 1)

    return flow


def _name(theirs: str) -> str | None:
    """The name in this module of one of the port's tensors."""
    match = _KEY.fullmatch(theirs)
    return f"levels.{match[1]}.{match[2]}.{match[3]}" if match else None


def _level() -> nn.Sequential:
    """Five 7 x 7 convolutions with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in zip(_WIDTHS, _WIDTHS[1:], strict=False):
        layers += [nn.Conv2d(before, after, 7, padding=3), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _warped(image: Tensor, flow: Tensor) -> Tensor:
    """The image read bilinearly at p + flow(p); beyond its edge, what the edge holds."""
    height, width = image.shape[-2:]
    x = torch.arange(width, device=image.device) + flow[:, 0]
    y = torch.arange(height, device=image.device)[:, None] + flow[:, 1]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
