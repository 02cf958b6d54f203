"""Steps of public automata that bound their state or update, wrap around, gate the update or drop hidden units."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from foreign_steps import SOBEL
from torch import nn


class Volumes(nn.Module):
    """3-D, channel-major fixed filters with a bank made at each call, tanh(dx) * 0.1, life after, clamp to [-1, 1]."""

    def __init__(self, channels=6, hidden=20):
        super().__init__()
        self.channels = channels
        self.net = nn.Sequential(nn.Conv3d(4 * channels, hidden, 1), nn.GroupNorm(4, hidden), nn.ReLU())
        self.last = nn.Conv3d(hidden, channels, 1, bias=False)

    def bank(self, x):
        kernels = torch.zeros(4, 3, 3, 3)
        kernels[0, 1, 1, 1] = 1
        for axis, at in enumerate(((0, 1, 1), (1, 0, 1), (1, 1, 0)), start=1):
            kernels[axis][at], kernels[axis][tuple(2 - i for i in at)] = -0.5, 0.5
        return kernels.repeat(self.channels, 1, 1, 1)[:, None].to(x)

    def step(self, x):
        seen = F.conv3d(x, self.bank(x), padding=1, groups=self.channels)
        dx = torch.tanh(self.last(self.net(seen))) * 0.1
        x = x + dx * (torch.rand(x.shape[0], 1, *x.shape[2:], device=x.device) < 0.5)
        x = x * (F.max_pool3d(x[:, -1:], 3, 1, 1) > 0.1)
        return torch.clamp(x, -1.0, 1.0)

    def forward(self, x, steps=4):
        for _ in range(steps):
            x = self.step(x)
        return x


class Meadow(nn.Module):
    """[B, H, W, C], Linear layers, life before and after by a helper, clamped to +-8 with clamp_min and clamp_max."""

    def __init__(self, channels=10, hidden=24):
        super().__init__()
        self.fc0, self.fc1 = nn.Linear(3 * channels, hidden), nn.Linear(hidden, channels, bias=False)
        eye = torch.zeros(3, 3)
        eye[1, 1] = 1
        filters = torch.stack([eye, torch.tensor(SOBEL) / 8, torch.tensor(SOBEL).T / 8])
        self.register_buffer("filters", filters[:, None].repeat(channels, 1, 1, 1))

    @staticmethod
    def living(x):
        return F.max_pool2d(x[..., 3:4].permute(0, 3, 1, 2), 3, 1, 1).permute(0, 2, 3, 1) > 0.1

    def forward(self, x, steps=4):
        for _ in range(steps):
            before = self.living(x)
            seen = F.conv2d(x.permute(0, 3, 1, 2), self.filters, padding=1, groups=x.shape[-1]).permute(0, 2, 3, 1)
            dx = self.fc1(F.relu(self.fc0(seen)))
            x = x + dx * (torch.rand_like(x[..., :1]) > 0.4)
            x = (x * (before & self.living(x))).clamp_min(-8.0).clamp_max(8.0)
        return x


class Engram(nn.Module):
    """A torus: circular filters, life in a window that wraps, which gates the update."""

    def __init__(self, channels=9, hidden=16, gates=True):
        super().__init__()
        self.gates = gates
        self.sees = nn.Conv2d(
            channels, 2 * channels, 3, padding=1, padding_mode="circular", groups=channels, bias=False
        )
        self.one, self.two = nn.Conv2d(3 * channels, hidden, 1), nn.Conv2d(hidden, channels, 1, bias=False)

    @staticmethod
    def living(x):
        return (F.max_pool2d(F.pad(x[:, 3:4], (1, 1, 1, 1), mode="circular"), 3, stride=1) > 0.1).float()

    def forward(self, x, steps=4):
        for _ in range(steps):
            before = self.living(x)
            dx = self.two(torch.relu(self.one(torch.cat((x, self.sees(x)), 1))))
            dx = dx * (torch.rand(x.shape[0], 1, *x.shape[2:]) <= 0.5).float()
            if self.gates:
                x = x + dx * before
            else:
                x = x + dx
                x = x * before * self.living(x)
        return x


class Painted(nn.Module):
    """The image is not clamped: it is put back behind the clamp."""

    def __init__(self, channels=8, hidden=14):
        super().__init__()
        self.sees = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", groups=channels)
        self.one, self.two = nn.Conv2d(2 * channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x, steps=3):
        for _ in range(steps):
            dx = self.two(F.gelu(self.one(torch.cat([x, self.sees(x)], 1))))
            new = F.hardtanh(x + 0.5 * torch.tanh(dx) * (torch.rand_like(x[:, :1]) < 0.7), -1, 1.5)
            x = torch.cat([x[:, :3], new[:, 3:]], 1)
        return x


class Line(nn.Module):
    """1-D, life in a window of 5 that wraps, no mask, the update through a SiLU."""

    def __init__(self, channels=6, hidden=10):
        super().__init__()
        self.sees = nn.Conv1d(channels, channels, 5, padding=2, padding_mode="circular", groups=channels)
        self.one, self.two = nn.Conv1d(2 * channels, hidden, 1), nn.Conv1d(hidden, channels, 1)

    def forward(self, x, steps=3):
        for _ in range(steps):
            alive = F.max_pool1d(F.pad(x[:, 2:3], (2, 2), mode="circular"), 5, stride=1) > 0.2
            x = (x + 0.1 * F.silu(self.two(F.elu(self.one(torch.cat([self.sees(x), x], 1)))))) * alive
        return x


class Dropping(nn.Module):
    """Dropout of hidden units behind each activation, by a layer, a function or the operation that GPUs have."""

    def __init__(self, channels=6, hidden=(12, 8), how="layer"):
        super().__init__()
        self.how = how
        self.sees = nn.Conv2d(channels, 2 * channels, 3, padding=1, padding_mode="circular", groups=channels)
        widths = (3 * channels, *hidden)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(widths, widths[1:], strict=False))
        self.last, self.drop = nn.Conv2d(widths[-1], channels, 1, bias=False), nn.Dropout(0.25)

    def dropped(self, y):
        if self.how == "layer":
            return self.drop(y)
        if self.how == "function":
            return F.dropout(y, 0.25, self.training)
        return torch.native_dropout(y, 0.25, self.training)[0] if self.training else y

    def forward(self, x, steps=3):
        for _ in range(steps):
            y = torch.cat([x, self.sees(x)], 1)
            for layer in self.layers:
                y = self.dropped(F.leaky_relu(layer(y)))
            x = x + self.last(y) * (torch.rand(len(x), 1, *x.shape[2:]) < 0.5)
        return x


BOUNDED = {
    "clamp, tanh, life after, 3-D": Volumes,
    "clamp at two sides, channels last": Meadow,
    "life gates, wrapping": Engram,
    "life before and after, wrapping": lambda: Engram(gates=False),
    "image behind the clamp": Painted,
    "wrapping line, silu": Line,
}
