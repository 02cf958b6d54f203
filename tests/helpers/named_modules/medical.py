"""M3D-NCA, Med-NCA and the segmentation tutorial."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class BasicNCA(nn.Module):
    """[B, H, W, C]; works on axes swapped by transpose(1, 3), with Sobel filters made anew in each step."""

    def __init__(self, channel_n=16, hidden_size=128, fire_rate=0.5, input_channels=1):
        super().__init__()
        self.device, self.channel_n, self.input_channels = torch.device("cpu"), channel_n, input_channels
        self.fc0, self.fc1 = nn.Linear(3 * channel_n, hidden_size), nn.Linear(hidden_size, channel_n, bias=False)
        nn.init.zeros_(self.fc1.weight)
        self.fire_rate = fire_rate

    def perceive(self, x):
        sobel, seen = np.outer([1, 2, 1], [-1, 0, 1]) / 8.0, [x]
        for kernel in (sobel, sobel.T):
            weight = torch.from_numpy(kernel.astype(np.float32)).view(1, 1, 3, 3).repeat(self.channel_n, 1, 1, 1)
            seen.append(F.conv2d(x, weight.to(self.device), padding=1, groups=self.channel_n))
        return torch.cat(seen, 1)

    def update(self, x_in, fire_rate):
        x = x_in.transpose(1, 3)
        dx = self.fc1(F.relu(self.fc0(self.perceive(x).transpose(1, 3))))
        fire_rate = self.fire_rate if fire_rate is None else fire_rate
        fires = torch.rand([dx.size(0), dx.size(1), dx.size(2), 1]) > fire_rate
        return (x + (dx * fires.float().to(self.device)).transpose(1, 3)).transpose(1, 3)

    def forward(self, x, steps=64, fire_rate=0.5):
        for _ in range(steps):
            new = self.update(x, fire_rate).clone()
            x = torch.concat((x[..., : self.input_channels], new[..., self.input_channels :]), 3)
        return x


class BackboneNCA(BasicNCA):
    """Two dense convolutions in the place of the filters."""

    def __init__(self, channel_n=16, hidden_size=128, fire_rate=0.5, input_channels=1):
        super().__init__(channel_n, hidden_size, fire_rate, input_channels)
        self.p0 = nn.Conv2d(channel_n, channel_n, 3, padding=1, padding_mode="reflect")
        self.p1 = nn.Conv2d(channel_n, channel_n, 3, padding=1, padding_mode="reflect")

    def perceive(self, x):
        return torch.cat((x, self.p0(x), self.p1(x)), 1)


class BasicNCA3D(nn.Module):
    """[B, H, W, D, C]; axes swapped by transpose(1, 4), one wide depthwise filter, batch statistics."""

    def __init__(self, channel_n=16, hidden_size=64, fire_rate=0.5, input_channels=1, kernel_size=7):
        super().__init__()
        self.channel_n, self.input_channels, self.fire_rate = channel_n, input_channels, fire_rate
        self.fc0, self.fc1 = nn.Linear(2 * channel_n, hidden_size), nn.Linear(hidden_size, channel_n, bias=False)
        options = {"padding": (kernel_size - 1) // 2, "padding_mode": "reflect", "groups": channel_n}
        self.p0 = nn.Conv3d(channel_n, channel_n, kernel_size, **options)
        self.bn = nn.BatchNorm3d(hidden_size, track_running_stats=False)
        nn.init.zeros_(self.fc1.weight)

    def update(self, x_in, fire_rate):
        x = x_in.transpose(1, 4)
        dx = self.fc0(torch.cat((x, self.p0(x)), 1).transpose(1, 4))
        dx = self.fc1(F.relu(self.bn(dx.transpose(1, 4)).transpose(1, 4)))
        fires = torch.rand([*dx.shape[:4], 1]) > (self.fire_rate if fire_rate is None else fire_rate)
        return (x + (dx * fires.float().to(dx.device)).transpose(1, 4)).transpose(1, 4)

    def forward(self, x, steps=10, fire_rate=0.5):
        for _ in range(steps):
            new = self.update(x, fire_rate).clone()
            x = torch.concat((x[..., : self.input_channels], new[..., self.input_channels :]), 4)
        return x


class NCA2D(nn.Module):
    """[B, C, H, W]; one step; the convolution before the state, zeros put in front of the update."""

    def __init__(self, c=16, h=64, k=3, fire_rate=0.5):
        super().__init__()
        self.c, self.fire_rate = c, fire_rate
        self.perception = nn.Conv2d(c, c, k, padding=k // 2, groups=c)
        self.fc1, self.bn = nn.Conv2d(2 * c, h, 1), nn.BatchNorm2d(h, track_running_stats=False)
        self.fc2 = nn.Conv2d(h, c - 1, 1)

    def forward(self, x):
        out = self.fc2(F.relu(self.bn(self.fc1(torch.cat([self.perception(x), x], dim=1)))))
        out = out * (torch.rand(x.shape[0], 1, *x.shape[2:], device=x.device) <= self.fire_rate).float()
        return x + torch.cat([torch.zeros_like(out[:, :1]), out], dim=1)


class MedNCA(nn.Module):
    """Two backbones: the second continues on the enlarged state of the first, with the full image put back."""

    def __init__(self, channel_n=8, hidden_size=16, steps=4):
        super().__init__()
        self.backbone_lowres = BackboneNCA(channel_n, hidden_size)
        self.backbone_highres = BackboneNCA(channel_n, hidden_size)
        self.steps, self.channel_n = steps, channel_n

    def forward(self, image):
        x = torch.zeros(len(image), *image.shape[2:], self.channel_n, device=image.device)
        x[..., :1] = image.movedim(1, -1)
        small = F.interpolate(x.permute(0, 3, 1, 2), scale_factor=0.25, mode="area").permute(0, 2, 3, 1)
        low = self.backbone_lowres(small, steps=self.steps, fire_rate=0.5).permute(0, 3, 1, 2)
        low = F.interpolate(low, scale_factor=4, mode="nearest").permute(0, 2, 3, 1)
        full = torch.concat((x[..., :1], low[..., 1:]), 3)
        return self.backbone_highres(full, steps=self.steps, fire_rate=0.5)[..., 1:2]
