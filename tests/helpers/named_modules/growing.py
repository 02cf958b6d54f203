"""Growing automata: the tutorial's, whose alive mask wraps around, and a widely copied port of the first one."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
KERNELS = torch.stack([torch.zeros(3, 3), SOBEL, SOBEL.T])  # the tutorial's first is called identity and holds zeros


def perception(x):
    b, c, h, w = x.shape
    y = F.pad(x.reshape(b * c, 1, h, w), (1, 1, 1, 1), mode="circular")
    return F.conv2d(y, KERNELS[:, None].to(x)).reshape(b, -1, h, w)


def is_alive(x):
    return F.max_pool2d(F.pad(x, (1, 1, 1, 1), mode="circular"), 3, stride=1, padding=0) > 0.1


class NCAModel(nn.Module):
    """[B, C, H, W]; filters in a global tensor, everything wraps around."""

    def __init__(self, n_channels=16, hidden=128, fire_rate=0.5):
        super().__init__()
        self.n_channels, self.fire_rate = n_channels, fire_rate
        self.net = nn.Sequential(
            nn.Conv2d(3 * n_channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, n_channels, 1, bias=False)
        )
        nn.init.zeros_(self.net[-1].weight)

    def step(self, x):
        y = self.net(perception(x))
        x = x + y * (torch.rand(y.shape[0], 1, *y.shape[2:], device=x.device) + self.fire_rate).floor()
        return x * is_alive(x[:, 3:4])

    def forward(self, x, steps=1):
        for _ in range(steps):
            x = self.step(x)
        return x


class CAModel(nn.Module):
    """[B, H, W, C]; axes swapped by transpose(1, 3), filters turned by an angle, alive before and after."""

    def __init__(self, channel_n=16, hidden_size=128, fire_rate=0.5):
        super().__init__()
        self.device, self.channel_n, self.fire_rate = torch.device("cpu"), channel_n, fire_rate
        self.fc0, self.fc1 = nn.Linear(3 * channel_n, hidden_size), nn.Linear(hidden_size, channel_n, bias=False)
        nn.init.zeros_(self.fc1.weight)

    def alive(self, x):
        return F.max_pool2d(x[:, 3:4, :, :], kernel_size=3, stride=1, padding=1) > 0.1

    def perceive(self, x, angle):
        dx = np.outer([1, 2, 1], [-1, 0, 1]) / 8.0
        c, s = np.cos(angle * np.pi / 180), np.sin(angle * np.pi / 180)
        seen = [x]
        for kernel in (c * dx - s * dx.T, s * dx + c * dx.T):
            weight = torch.from_numpy(kernel.astype(np.float32)).view(1, 1, 3, 3).repeat(self.channel_n, 1, 1, 1)
            seen.append(F.conv2d(x, weight.to(self.device), padding=1, groups=self.channel_n))
        return torch.cat(seen, 1)

    def update(self, x, fire_rate, angle):
        x = x.transpose(1, 3)
        before = self.alive(x)
        dx = self.fc1(F.relu(self.fc0(self.perceive(x, angle).transpose(1, 3))))
        fires = torch.rand([dx.size(0), dx.size(1), dx.size(2), 1]) > (
            self.fire_rate if fire_rate is None else fire_rate
        )
        x = x + (dx * fires.float().to(self.device)).transpose(1, 3)
        return (x * (before & self.alive(x)).float()).transpose(1, 3)

    def forward(self, x, steps=1, fire_rate=None, angle=0.0):
        for _ in range(steps):
            x = self.update(x, fire_rate, angle)
        return x
