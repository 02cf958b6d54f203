"""A texture loss that needs no trained network: patches of both images, at several scales, as clouds of points.

After Elnekave and Weiss, "Generating Natural Images with Direct Patch Distributions Matching" (2022): a random k x k
filter is a direction in the space of patches, and its responses are their shadows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncafast.tasks.texture.loss.sliced import unit_directions, wasserstein


class PatchLoss(nn.Module):
    """Sliced Wasserstein distance between the patches of images and those of a sample, summed over scales.

    Args:
        sample: [3, H, W] float.
        patch: side of a patch, in pixels of each scale.
        levels: scales; every further one is half as large.
        directions: random filters per scale and call.
    """

    def __init__(self, sample: Tensor, *, patch: int = 7, levels: int = 4, directions: int = 32) -> None:
        super().__init__()
        self.patch, self.directions = patch, directions
        self.pyramid = nn.ParameterList()
        for image in pyramid(sample[None], levels):
            self.pyramid.append(nn.Parameter(image, requires_grad=False))

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images [B, 3, H, W] on a torus -> loss [B]. `generator` is a CPU generator that draws the filters."""
        total = images.new_zeros(images.shape[0])
        for image, sample in zip(pyramid(images, len(self.pyramid)), self.pyramid, strict=True):
            drawn = unit_directions(self.directions, 3 * self.patch**2, generator)
            filters = drawn.view(-1, 3, self.patch, self.patch).to(images)
            side = self.patch // 2
            around = F.pad(image, (side,) * 4, "circular")
            ours = F.conv2d(around, filters).flatten(2)
            theirs = F.conv2d(sample, filters).flatten(2)[0]
            total = total + wasserstein(ours, theirs).mean(1)
        return total


def pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """Images [B, 3, H, W] at `levels` scales, each half the one before by 2 x 2 means."""
    scales = [images]
    for _ in range(levels - 1):
        scales.append(F.avg_pool2d(scales[-1], 2))
    return scales
