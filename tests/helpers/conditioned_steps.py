"""Steps that see more than the state: positions, time codes, embeddings and conditions, as public code spells them."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class TimeCoded(nn.Module):
    """One channel step / max_steps, appended last to the perception."""

    def __init__(self, channels=7, hidden=14):
        super().__init__()
        self.near = nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=channels, padding_mode="reflect")
        self.net = nn.Sequential(nn.Conv2d(3 * channels + 1, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))

    def forward(self, x, steps=4):
        for step in range(steps):
            code = torch.ones(len(x), 1, *x.shape[2:], device=x.device) * (step / steps)
            dx = self.net(torch.cat((x, self.near(x), code), 1))
            x = x + dx * (torch.rand_like(x[:, :1]) < 0.5)
        return x


class Placed(nn.Module):
    """Coordinates from -1 to 1 and their sines before the filters, [B, H, W, C] with Linear layers."""

    def __init__(self, channels=6, hidden=12):
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, padding_mode="circular", bias=False)
        self.one, self.two = nn.Linear(2 * channels + 4, hidden), nn.Linear(hidden, channels, bias=False)

    def code(self, x):
        b, h, w, _ = x.shape
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        place = torch.stack([rows, columns], -1).to(x.device)
        return torch.cat([place, torch.sin(math.pi * place)], -1)[None].expand(b, h, w, 4)

    def forward(self, x, num_steps=3):
        for _ in range(num_steps):
            seen = self.near(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            dx = self.two(F.gelu(self.one(torch.cat([self.code(x), x, seen], -1))))
            x = x + dx * (torch.rand(*x.shape[:3], 1, device=x.device) > 0.3).float()
        return x


class PlacedInTime(TimeCoded):
    """Positions in a dense convolution beside the state, and a learned number for each step."""

    def __init__(self, channels=5, hidden=10):
        super().__init__(channels, hidden)
        self.near = nn.Conv2d(channels + 1, 8, 3, padding=1)
        self.net[0] = nn.Conv2d(8 + 2, hidden, 1)
        self.ages = nn.Parameter(torch.randn(2, 32) / 2)

    def forward(self, x, steps=4):
        rows = torch.arange(x.shape[2], dtype=x.dtype)[None, None, :, None].expand(len(x), 1, *x.shape[2:]) / x.shape[2]
        for step in range(steps):
            age = self.ages[:, step].view(1, 2, 1, 1).expand(len(x), 2, *x.shape[2:])
            x = x + self.net(torch.cat([age, self.near(torch.cat([x, rows], 1))], 1))
        return x


class Diffusing(nn.Module):
    """The noise level of each sample by sines and an MLP, and positions; masks by rand."""

    def __init__(self, channels=6, hidden=12):
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.time = nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 3))
        self.one, self.two = nn.Conv2d(2 * channels + 4, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x, t, steps=3):
        angles = t[:, None] * torch.exp(torch.arange(4, device=t.device) / -2)
        level = self.time(torch.cat([angles.sin(), angles.cos()], 1))[:, :, None, None].repeat(1, 1, *x.shape[2:])
        place = torch.linspace(0, 1, x.shape[-1], device=x.device).expand(len(x), 1, *x.shape[2:])
        for _ in range(steps):
            seen = torch.cat([x, self.near(x), level, place], 1)
            x = x + self.two(F.leaky_relu(self.one(seen))) * (torch.rand(len(x), 1, *x.shape[2:]) < 0.7)
        return x

    @staticmethod
    def inputs(x):
        return x, torch.rand(len(x))


class Classed(nn.Module):
    """A class embedding for every cell."""

    def __init__(self, channels=6, hidden=12):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.near = nn.Conv2d(channels, channels, 3, padding=1)
        self.one, self.two = nn.Conv2d(2 * channels + 3, hidden, 1), nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x, label, steps=3):
        e = self.embedding(label).view(len(x), -1, 1, 1)
        for _ in range(steps):
            seen = torch.cat([x, self.near(x), e.expand(-1, -1, *x.shape[2:])], 1)
            x = x + 0.5 * self.two(torch.relu(self.one(seen))) * F.dropout(torch.ones_like(x[:, :1]), 0.5)
        return x

    @staticmethod
    def inputs(x):
        return x, torch.arange(len(x)) % 5


class Mapped(nn.Module):
    """A condition with a value for each cell, in a dict of conditions."""

    def __init__(self, channels=6, hidden=12):
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.one, self.two = nn.Conv2d(2 * channels + 2, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x, conditions, steps=3):
        for _ in range(steps):
            x = x + self.two(torch.tanh(self.one(torch.cat([conditions["image"], x, self.near(x)], 1))))
        return x

    @staticmethod
    def inputs(x):
        return x, {"image": torch.randn(len(x), 2, *x.shape[2:])}


class Added(nn.Module):
    """A condition added to the hidden units by a Linear layer, and the step's embedding to all samples'."""

    def __init__(self, channels=6, hidden=10):
        super().__init__()
        self.near = nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=channels, bias=False)
        self.one, self.two = nn.Conv2d(3 * channels, hidden, 1), nn.Conv2d(hidden, channels, 1, bias=False)
        self.of_goal, self.of_step = nn.Linear(4, hidden), nn.Embedding(16, hidden)

    def forward(self, x, goal, steps=3):
        for step in range(steps):
            h = self.one(torch.cat([x, self.near(x)], 1)) + self.of_goal(goal)[:, :, None, None]
            h = h + self.of_step(torch.tensor(step)).view(1, -1, 1, 1)
            x = x + self.two(torch.relu(h)) * (torch.rand_like(x[:, :1]) < 0.5).float()
        return x

    @staticmethod
    def inputs(x):
        return x, torch.randn(len(x), 4)


class Embedded(Added):
    """The condition is added to what is perceived, in [B, H, W, C]; a method of an unusual name that does one step."""

    def __init__(self, channels=6, hidden=10):
        super().__init__(channels, hidden)
        self.of_goal = nn.Linear(4, channels)

    def forward(self, x, goal):
        return self.grow(x, goal)

    def grow(self, x, goal):
        y = (x + self.of_goal(goal)[:, None, None]).permute(0, 3, 1, 2)
        dx = self.two(torch.relu(self.one(torch.cat([y, self.near(y)], 1))))
        return x + dx.permute(0, 2, 3, 1) * (torch.rand(*x.shape[:3], 1) < 0.5).float()


CONDITIONED: dict[str, tuple[Any, int, bool]] = {  # class, channels, whether channels are last
    "time code": (TimeCoded, 7, False),
    "positions": (Placed, 6, True),
    "positions in a convolution, learned ages": (PlacedInTime, 5, False),
    "noise level and positions": (Diffusing, 6, False),
    "class embedding": (Classed, 6, False),
    "condition map": (Mapped, 6, False),
    "added to hidden units": (Added, 6, False),
    "added to what is perceived": (Embedded, 6, True),
}
