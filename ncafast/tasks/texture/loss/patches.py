"""A texture loss that needs no trained network: patches of both images, at several scales, as clouds of points.

A random k x k filter is a direction in the space of patches, and its responses are the patches' shadows on it (Elnekave
and Weiss, "Generating Natural Images with Direct Patch Distributions Matching", 2022). Shadows on straight lines see
little of edges and corners, so random features of the patches are compared the same way: random filters and ReLU, as in
Ustyuzhaninov et al., "Texture Synthesis Using Shallow Convolutional Networks with Random Filters" (2016).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncafast.losses.sliced import unit_directions, wasserstein

_FLOOR = 0.02  # of a response's deviation: contrasts that the sample hardly has count for little
_MEAN_FREE = 0.7  # share of the features that see differences within each colour alone
_REACH = 3  # side of the neighbourhood of features that is compared


class PatchLoss(nn.Module):
    """Sliced Wasserstein distance between the patches of images and those of a sample, the mean over scales.

    Directions and features are drawn anew in every call. Distances are shares of the sample's own variance.

    Args:
        sample: [3, H, W], values 0 to 1.
        patch: side of a patch in pixels of each scale, odd.
        levels: scales at most; each one is half as large as the one before, and the last still has room for a
            few neighbourhoods of features, `patch + 3` pixels.
        directions: straight lines per scale and call, and as many through the space of features.
        features: random features per scale and call.

    Raises:
        ValueError: a sample with a side below `patch + 3`.
    """

    def __init__(
        self, sample: Tensor, *, patch: int = 7, levels: int = 4, directions: int = 24, features: int = 32
    ) -> None:
        super().__init__()
        self.patch, self.levels, self.directions, self.features = patch, levels, directions, features
        self.room = patch + _REACH  # pixels that the sample, which is not padded, needs for 2 x 2 features' patches
        if min(sample.shape[-2:]) < self.room:
            raise ValueError(f"a sample of {list(sample.shape)} is too small; give one with sides from {self.room}")
        for number, image in enumerate(pyramid(sample[None], levels, self.room)):
            self.register_buffer(f"sample{number}", image, persistent=False)

    @property
    def least_side(self) -> int:
        """Pixels that an image needs along each side: a torus is wrapped around once at most."""
        return self.patch // 2

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images [B, 3, H, W] on a torus -> loss [B]. `generator` is a CPU generator that draws all that is random."""
        terms = []
        for image, sample in zip(pyramid(images, self.levels, self.patch), self.buffers(), strict=False):
            around = F.pad(image, (self.patch // 2,) * 4, "circular")
            lines = self._filters(self.directions, 3, self.patch, generator).to(images)
            terms.append(_distance(F.conv2d(around, lines), F.conv2d(sample, lines)))
            seen, wanted = self._features(around, sample, generator)
            lines = self._filters(self.directions, self.features, _REACH, generator).to(images)
            seen = F.pad(seen, (_REACH // 2,) * 4, "circular")
            terms.append(_distance(F.conv2d(seen, lines), F.conv2d(wanted, lines)))
        return torch.stack(terms).mean(0)

    def _features(self, around: Tensor, sample: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random features of the images and of the sample, most of them on for about half of the sample's patches."""
        drawn = self._filters(self.features, 3, self.patch, generator)
        free = torch.rand(self.features, 1, 1, 1, generator=generator) < _MEAN_FREE
        drawn = (drawn - free * drawn.mean((2, 3), keepdim=True)).to(sample)
        shift = torch.randn(self.features, generator=generator).to(sample)
        responses = F.conv2d(sample, drawn)
        deviation, mean = torch.std_mean(responses, (0, 2, 3))
        drawn = drawn / (deviation + _FLOOR).view(-1, 1, 1, 1)
        bias = (0.7 * shift * deviation - mean) / (deviation + _FLOOR)
        return F.conv2d(around, drawn, bias).relu(), F.conv2d(sample, drawn, bias).relu()

    def _filters(self, count: int, channels: int, side: int, generator: torch.Generator) -> Tensor:
        return unit_directions(count, channels * side**2, generator).view(count, channels, side, side)


def pyramid(images: Tensor, levels: int, least: int) -> list[Tensor]:
    """Images [B, 3, H, W] at `levels` scales at most, each half the one before, no side below `least`."""
    scales = [images]
    while len(scales) < levels and min(scales[-1].shape[-2:]) // 2 >= least:
        scales.append(F.avg_pool2d(scales[-1], 2))
    return scales


def _distance(responses: Tensor, wanted: Tensor) -> Tensor:
    """Wasserstein distance of responses [B, K, h, w] to wanted [1, K, h', w'], a share of its variance: [B]."""
    target = wanted[0].flatten(1)
    return wasserstein(responses.flatten(2), target).mean(1) / (target.var(1).mean() + _FLOOR**2)
