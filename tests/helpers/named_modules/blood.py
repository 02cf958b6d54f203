"""Classification of blood cells: the WBC-NCA repository's MaxNCA and the tutorial's. Both give (scores, state)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class _Scores(nn.Module):
    """[B, H, W, C]; the image is put back in each step; two layers on the largest value of each channel."""

    def __init__(self, channel_n, fire_rate, input_channels, classes):
        super().__init__()
        self.channel_n, self.fire_rate, self.input_channels = channel_n, fire_rate, input_channels
        options = {"padding": 1, "groups": channel_n, "padding_mode": "reflect"}
        self.p0, self.p1 = nn.Conv2d(channel_n, channel_n, 3, **options), nn.Conv2d(channel_n, channel_n, 3, **options)
        self.fc2, self.fc3 = nn.Linear(channel_n, 128), nn.Linear(128, classes)

    def perceive(self, x):
        return torch.cat((x, self.p0(x), self.p1(x)), 1)

    def forward(self, x, steps=32, fire_rate=0.5):
        for _ in range(steps):
            new = self.update(x, fire_rate).clone()
            x = torch.concat((x[..., : self.input_channels], new[..., self.input_channels :]), 3)
        largest = F.adaptive_max_pool2d(x.permute(0, 3, 1, 2), (1, 1)).view(len(x), -1)
        return self.fc3(F.relu(self.fc2(largest))), x


class SwappedMaxNCA(_Scores):
    """Axes swapped by transpose(1, 3), Linear layers, no norm."""

    def __init__(self, channel_n=32, hidden_size=128, fire_rate=0.5, input_channels=3, classes=13):
        super().__init__(channel_n, fire_rate, input_channels, classes)
        self.fc0, self.fc1 = nn.Linear(3 * channel_n, hidden_size), nn.Linear(hidden_size, channel_n, bias=False)
        nn.init.zeros_(self.fc1.weight)

    def update(self, x_in, fire_rate):
        x = x_in.transpose(1, 3)
        dx = self.fc1(F.relu(self.fc0(self.perceive(x).transpose(1, 3))))
        fires = torch.rand([dx.size(0), dx.size(1), dx.size(2), 1]) > (
            self.fire_rate if fire_rate is None else fire_rate
        )
        return (x + (dx * fires.float()).transpose(1, 3)).transpose(1, 3)


class MaxNCA(_Scores):
    """Axes in order by permute, convolutions, batch statistics in training and evaluation."""

    def __init__(self, channel_n=16, hidden_size=128, fire_rate=0.5, input_channels=3, classes=13):
        super().__init__(channel_n, fire_rate, input_channels, classes)
        self.fc0, self.fc1 = nn.Conv2d(3 * channel_n, hidden_size, 1), nn.Conv2d(hidden_size, channel_n, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden_size, track_running_stats=False)
        nn.init.zeros_(self.fc1.weight)

    def update(self, x_in, fire_rate):
        x = x_in.permute(0, 3, 1, 2)
        dx = self.fc1(F.relu(self.bn(self.fc0(self.perceive(x)))))
        dx = dx * (torch.rand((dx.size(0), 1, dx.size(2), dx.size(3)), device=x.device) > fire_rate).float()
        return (x + dx).permute(0, 2, 3, 1)
