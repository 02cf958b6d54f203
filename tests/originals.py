"""The published models in plain PyTorch, step by step: what the fused drop-ins are compared with.

Written from the papers' and notebooks' mathematics with the originals' parameter names, in the originals' order of
construction. `masks`, where given, is a list of 0/1 tensors [B, 1, H, W], one per step, 1 for a cell that updates;
else each step draws one the way the original does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Masks = Sequence[Tensor] | None


def fired(masks: Masks, step: int, x: Tensor, rate: float, *, above: bool) -> Tensor:
    """[B, 1, H, W]: the mask given for this step, or one drawn by comparing uniform numbers with the rate."""
    if masks is not None:
        return masks[step].to(x.dtype)
    uniform = torch.rand(x.shape[0], 1, *x.shape[2:], device=x.device)
    return (uniform > rate if above else uniform <= rate).to(x.dtype)


class MaxNCA(nn.Module):
    """Notebook "Classification NCA": x [B, H, W, C] -> (logits, x)."""

    def __init__(self, channel_n=16, fire_rate=0.5, hidden_size=128, input_channels=3):
        super().__init__()
        self.fire_rate, self.input_channels = fire_rate, input_channels
        depthwise = {"padding": 1, "padding_mode": "reflect", "groups": channel_n}
        self.p0 = nn.Conv2d(channel_n, channel_n, 3, **depthwise)
        self.p1 = nn.Conv2d(channel_n, channel_n, 3, **depthwise)
        self.fc0 = nn.Conv2d(3 * channel_n, hidden_size, 1)
        self.bn = nn.BatchNorm2d(hidden_size, track_running_stats=False)
        self.fc1 = nn.Conv2d(hidden_size, channel_n, 1, bias=False)
        self.fc2 = nn.Linear(channel_n, 128)
        self.fc3 = nn.Linear(128, 13)
        nn.init.zeros_(self.fc1.weight)

    def forward(self, x, steps=32, fire_rate=0.5, masks: Masks = None):
        rate = self.fire_rate if fire_rate is None else fire_rate
        x = x.permute(0, 3, 1, 2)
        image = x[:, : self.input_channels]
        for step in range(steps):
            seen = torch.cat([x, self.p0(x), self.p1(x)], dim=1)
            update = self.fc1(F.relu(self.bn(self.fc0(seen))))
            moved = x + update * fired(masks, step, x, rate, above=True)
            x = torch.cat([image, moved[:, self.input_channels :]], dim=1)
        features = x.flatten(2).max(dim=2).values
        return self.fc3(F.relu(self.fc2(features))), x.permute(0, 2, 3, 1)


class NCA2D(nn.Module):
    """Notebook "Med-NCA": one step per call, x [B, C, H, W]."""

    def __init__(self, c=16, h=64, k=1, fire_rate=0.5):
        super().__init__()
        self.fire_rate = fire_rate
        self.perception = nn.Conv2d(c, c, k, padding=k // 2, groups=c)
        self.fc1 = nn.Conv2d(2 * c, h, 1)
        self.bn = nn.BatchNorm2d(h, track_running_stats=False)
        self.fc2 = nn.Conv2d(h, c - 1, 1)

    def forward(self, x, mask: Tensor | None = None):
        seen = torch.cat([self.perception(x), x], dim=1)
        update = self.fc2(F.relu(self.bn(self.fc1(seen))))
        masks = None if mask is None else [mask]
        update = update * fired(masks, 0, x, self.fire_rate, above=False)
        return x + F.pad(update, (0, 0, 0, 0, 1, 0))


def med_nca(model1, model2, image, masks: tuple[Masks, Masks], steps=(40, 20)):
    """The notebook's training step up to the prediction: image [B, 1, H, W] -> logits [B, 1, H, W]."""
    channels = model1.perception.in_channels
    coarse = F.interpolate(image, scale_factor=1 / 4, mode="bilinear")
    coarse = F.pad(coarse, (0, 0, 0, 0, 0, channels - 1))
    for step in range(steps[0]):
        coarse = model1(coarse, masks[0][step] if masks[0] is not None else None)
    hidden = F.interpolate(coarse[:, 1:], scale_factor=4, mode="bilinear")
    fine = torch.cat([image, hidden], dim=1)
    for step in range(steps[1]):
        fine = model2(fine, masks[1][step] if masks[1] is not None else None)
    return fine[:, 1:2]


class TextureNCA(nn.Module):
    """Notebook "Emergent Dynamics" as intended: four filters for each channel, grouped convolution on a torus."""

    def __init__(self, num_channels, hidden_neurons):
        super().__init__()
        x = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        laplacian, identity = torch.ones(3, 3), torch.zeros(3, 3)
        laplacian[1, 1], identity[1, 1] = -8, 1
        self.conv_kernels = torch.stack([x, x.T, laplacian, identity]).unsqueeze(1)
        self.mlp = nn.Sequential(
            nn.Linear(4 * num_channels, hidden_neurons), nn.ReLU(), nn.Linear(hidden_neurons, num_channels)
        )

    def forward(self, state, steps, masks: Masks = None):
        channels = state.shape[1]
        kernels = self.conv_kernels.to(state.dtype).repeat(channels, 1, 1, 1)
        for step in range(steps):
            torus = F.pad(state, (1, 1, 1, 1), mode="circular")
            seen = F.conv2d(torus, kernels, groups=channels)
            update = self.mlp(seen.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            state = state + update * fired(masks, step, state, 0.5, above=True)
        return state


class GrowingNCA(nn.Module):
    """Growing tutorial of MECLab: x [B, H, W, C], its first and third axes swapped inside, Sobel / 8 turned."""

    def __init__(self, channel_n, fire_rate, device="cpu", hidden_size=128):
        super().__init__()
        self.fire_rate = fire_rate
        self.fc0 = nn.Linear(3 * channel_n, hidden_size)
        self.fc1 = nn.Linear(hidden_size, channel_n, bias=False)
        nn.init.zeros_(self.fc1.weight)
        self.to(device)

    def forward(self, x, steps=1, fire_rate=None, angle=0.0, masks: Masks = None):
        rate = self.fire_rate if fire_rate is None else fire_rate
        channels, turn = x.shape[-1], math.radians(angle)
        smooth, slope = torch.tensor([1.0, 2, 1]).double(), torch.tensor([-1.0, 0, 1]).double()
        dx = torch.outer(smooth, slope) / 8
        first = math.cos(turn) * dx - math.sin(turn) * dx.T
        second = math.sin(turn) * dx + math.cos(turn) * dx.T
        kernels = [k.to(x.dtype).expand(channels, 1, 3, 3) for k in (first, second)]
        x = x.transpose(1, 3)  # [B, C, W, H]
        for step in range(steps):
            before = _alive(x[:, 3:4])
            seen = [x] + [F.conv2d(x, k, padding=1, groups=channels) for k in kernels]
            hidden = F.relu(self.fc0(torch.cat(seen, dim=1).transpose(1, 3)))
            mask = masks if masks is None else [mask.transpose(2, 3) for mask in masks]
            x = x + self.fc1(hidden).transpose(1, 3) * fired(mask, step, x, rate, above=True)
            x = x * (before & _alive(x[:, 3:4]))
        return x.transpose(1, 3)


class SelfClassifyingNCA(nn.Module):
    """CAX's self-classifying example: state [B, H, W, C], dropout of whole cells in training, image re-imposed."""

    def __init__(self, channel_size=20, perception_size=80, hidden_layer_sizes=(80,), cell_dropout_rate=0.5):
        super().__init__()
        self.rate = cell_dropout_rate
        sizes = [perception_size, *hidden_layer_sizes, channel_size]
        self.perceive, self.update = nn.Module(), nn.Module()
        self.perceive.conv = nn.Conv2d(channel_size, perception_size, 3, padding=1)
        layers = [nn.Conv2d(n, m, 1) for n, m in zip(sizes[:-1], sizes[1:], strict=True)]
        self.update.layers = nn.ModuleList(layers)

    def forward(self, state, num_steps=1, masks: Masks = None):
        x = state.permute(0, 3, 1, 2)
        image = x[:, -1:]
        for step in range(num_steps):
            alive = _alive(x[:, -1:])
            update = F.relu(self.perceive.conv(x))
            for layer in self.update.layers[:-1]:
                update = F.relu(layer(update))
            update = self.update.layers[-1](update)
            if self.training:
                update = update * fired(masks, step, x, self.rate, above=True) / (1 - self.rate)
            x = x + update
            x = x * (alive & _alive(x[:, -1:]))
            x = torch.cat([x[:, :-1], image], dim=1)
        return x.permute(0, 2, 3, 1)


def _alive(channel: Tensor) -> Tensor:
    return F.max_pool2d(channel, kernel_size=3, stride=1, padding=1) > 0.1
