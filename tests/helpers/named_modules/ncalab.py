"""NCALab: one class for all tasks; forward gives an object that holds the last state and what follows from it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Prediction:
    """What a model says, and the state that it says it of."""

    def __init__(self, model, steps, output_image, logits, head_prediction=None):
        self.model, self.steps, self.output_image = model, steps, output_image
        self.logits, self.head_prediction, self.mask = logits, head_prediction, None

    @property
    def hidden_channels(self):
        return self.output_image[:, self.model.num_image_channels :][:, : self.model.num_hidden_channels]


class Perception(nn.Module):
    """The state, what fixed or learned filters see of it, and the time."""

    def __init__(self, channels, learned, padding, timed, timesteps):
        super().__init__()
        self.channels, self.timed, self.timesteps = channels, timed, timesteps
        if learned:
            options = {"padding": 1, "padding_mode": padding, "groups": channels, "bias": False}
            self.filters = nn.ModuleList(nn.Conv2d(channels, channels, 3, **options) for _ in range(learned))
        else:
            sobel = np.outer([1, 2, 1], [-1, 0, 1]) / 8.0
            self.filters = [sobel, sobel.T]

    def see(self, x, which):
        if isinstance(which, nn.Module):
            return which(x)
        kernel = torch.from_numpy(which.astype(np.float32)).to(x.device)
        return F.conv2d(x, kernel[None, None].repeat(self.channels, 1, 1, 1), padding=1, groups=self.channels)

    def perceive(self, x, step):
        seen = [x] + [self.see(x, which) for which in self.filters]
        if self.timed:
            seen.append(torch.ones(x.shape[0], 1, *x.shape[2:]).mul(step / self.timesteps).to(x.device))
        return torch.cat(seen, dim=1)


class Rule(nn.Module):
    """Two 1x1 convolutions, the second of zeros."""

    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(inputs, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, outputs, 1, bias=False))
        nn.init.zeros_(self.network[-1].weight)

    def forward(self, x):
        return self.network(x)


class Model(nn.Module):
    """A state of image, hidden and output channels."""

    def __init__(
        self,
        image_channels,
        hidden_channels,
        output_channels,
        fire_rate=0.8,
        hidden_size=128,
        alive=False,
        fixed_image=True,
        learned=2,
        padding="reflect",
        timed=False,
    ):
        super().__init__()
        self.num_image_channels, self.num_hidden_channels = image_channels, hidden_channels
        self.num_output_channels = output_channels
        self.num_channels = image_channels + hidden_channels + output_channels
        self.fire_rate, self.use_alive_mask, self.immutable_image_channels = fire_rate, alive, fixed_image
        self.perception = Perception(self.num_channels, learned, padding, timed, 100)
        inputs = self.num_channels * (1 + len(self.perception.filters)) + timed
        self.rule = Rule(inputs, hidden_size, self.num_channels)
        self.head, self.device, self.metrics = None, torch.device("cpu"), {}

    def alive(self, x):
        return F.max_pool2d(x[:, 3], kernel_size=3, stride=1, padding=1) > 0.1

    def _update(self, x, step):
        dx = self.rule(self.perception.perceive(x, step))
        if self.fire_rate < 1.0:
            fires = torch.rand([x.size(0), 1, x.size(2), x.size(3)], device=self.device) < self.fire_rate
            dx = dx * fires.float()
        if self.immutable_image_channels:
            dx[:, : self.num_image_channels] *= 0
        return dx

    def _forward_step(self, x, step):
        x = x + self._update(x, step)
        if self.use_alive_mask:
            x *= self.alive(x)[:, None].float()
        return x

    def post_prediction(self, prediction):
        return prediction

    def forward(self, x, steps: int = 1):
        assert x.shape[1] == self.num_channels
        for step in range(steps):
            x = self._forward_step(x, step)
        said = None
        if self.head is not None:
            said = self.head(x[:, self.num_image_channels :][:, : self.num_hidden_channels])
        logits = said if said is not None else x[:, -self.num_output_channels :]
        return self.post_prediction(Prediction(self, steps, x, logits, said))


class GrowingModel(Model):
    """All channels change, dead cells are cleared, filters are fixed."""

    def __init__(self, hidden_channels=12, hidden_size=128):
        super().__init__(4, hidden_channels, 0, 0.5, hidden_size, alive=True, fixed_image=False, learned=0)


class SegmentationModel(Model):
    """Filters wrap around; a mask is made of the last channel."""

    def __init__(self, hidden_channels=16, hidden_size=128):
        super().__init__(3, hidden_channels, 1, hidden_size=hidden_size, padding="circular")

    def post_prediction(self, prediction):
        prediction.mask = torch.sigmoid(prediction.logits) > 0.5
        return prediction


class ClassificationModel(Model):
    """A head of its own on the hidden channels."""

    def __init__(self, hidden_channels=20, hidden_size=128, classes=8):
        super().__init__(3, hidden_channels, 0, hidden_size=hidden_size)
        layers = nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * hidden_channels, 32), nn.ReLU()
        self.head = nn.Sequential(*layers, nn.Linear(32, classes))


class DepthModel(Model):
    """The step's number is a channel."""

    def __init__(self, hidden_channels=18, hidden_size=128):
        super().__init__(3, hidden_channels, 1, hidden_size=hidden_size, timed=True)
