"""OctreeNCA: the fast steps in two and three dimensions, and a pyramid that calls one of them at several sizes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class _Fast(nn.Module):
    """[B, *S, C]; works on [B, C, *S]; the argument `fire_rate` is ignored, as in the original."""

    def __init__(self, ndim, norm, channel_n, hidden_size, input_channels, kernel_size):
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[ndim - 2]
        norms = {
            "batch": lambda: (nn.BatchNorm2d, nn.BatchNorm3d)[ndim - 2](hidden_size, track_running_stats=False),
            "group": lambda: nn.GroupNorm(1, hidden_size),
            "none": nn.Identity,
        }
        self.channel_n, self.input_channels = channel_n, input_channels
        self.fire_rate, self.use_forward_cuda = 0.5, False
        self.fc0 = conv(2 * channel_n, hidden_size, kernel_size=1)
        self.fc1 = conv(hidden_size, channel_n - input_channels, kernel_size=1, bias=False)
        options = {"padding": (kernel_size - 1) // 2, "padding_mode": "reflect", "groups": channel_n}
        self.conv, self.bn = conv(channel_n, channel_n, kernel_size, **options), norms[norm]()
        nn.init.zeros_(self.fc1.weight)

    def update(self, state, fire_rate):
        delta = self.fc0(torch.cat([state, self.conv(state)], dim=1))
        delta = self.fc1(F.relu(self.bn(delta)))
        with torch.no_grad():
            fires = torch.zeros([delta.size(0), 1, *delta.shape[2:]], device=delta.device)
            fires.bernoulli_(p=self.fire_rate).float()
        return state[:, self.input_channels :] + delta * fires

    def forward(self, x, steps=10, fire_rate=0.5):
        state = x.movedim(-1, 1)
        image = state[:, 0 : self.input_channels]
        for _ in range(steps):
            state = torch.cat([image, self.update(state, fire_rate)], dim=1)
        return state.movedim(1, -1)


class Fast2D(_Fast):
    """In two dimensions."""

    def __init__(self, norm="batch", channel_n=16, hidden_size=64, input_channels=1, kernel_size=3):
        super().__init__(2, norm, channel_n, hidden_size, input_channels, kernel_size)


class Fast3D(_Fast):
    """In three dimensions."""

    def __init__(self, norm="batch", channel_n=16, hidden_size=64, input_channels=1, kernel_size=3):
        super().__init__(3, norm, channel_n, hidden_size, input_channels, kernel_size)


class Pyramid(nn.Module):
    """From coarse to fine; one backbone for all sizes, or one for each."""

    def __init__(self, separate=False, channel_n=8, hidden_size=16, levels=(((16, 20), 2), ((8, 10), 3), ((4, 5), 4))):
        super().__init__()
        self.levels, self.channel_n, self.separate = levels, channel_n, separate
        if separate:
            self.backbone_ncas = nn.ModuleList(Fast2D("none", channel_n, hidden_size) for _ in levels)
        else:
            self.backbone_nca = Fast2D("none", channel_n, hidden_size)

    def forward(self, image):
        seed = F.pad(image, (0, 0, 0, 0, 0, self.channel_n - 1))
        states = [F.interpolate(seed, size=size).permute(0, 2, 3, 1) for size, _ in self.levels]
        for level in reversed(range(len(self.levels))):
            backbone = self.backbone_ncas[level] if self.separate else self.backbone_nca
            states[level] = backbone(states[level], steps=self.levels[level][1], fire_rate=0.5)
            if level > 0:
                grown = states[level][..., 1:].permute(0, 3, 1, 2)
                grown = F.interpolate(grown, size=self.levels[level - 1][0], mode="nearest").permute(0, 2, 3, 1)
                states[level - 1] = torch.cat([states[level - 1][..., :1], grown], dim=-1)
        return states[0][..., 1:2]
