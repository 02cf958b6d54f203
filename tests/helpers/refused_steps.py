"""Modules that are no automata, or lack a property of a rule; each with words that the reason must contain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Base(nn.Module):
    """A plain step, of which each class below changes one part."""

    def __init__(self, channels=8, hidden=12):
        super().__init__()
        self.channels = channels
        self.conv = nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=channels)
        self.one, self.two = nn.Conv2d(3 * channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def perceive(self, x):
        return torch.cat([x, self.conv(x)], 1)

    def hidden(self, y):
        return torch.relu(self.one(y))

    def update(self, x):
        return self.two(self.hidden(self.perceive(x)))

    def mask(self, x):
        return (torch.rand_like(x[:, :1]) < 0.5).float()

    def forward(self, x):
        return x + self.update(x) * self.mask(x)


class Residual(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.a, self.b = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels, track_running_stats=False)

    def forward(self, x):
        return torch.relu(x + self.b(torch.relu(self.norm(self.a(x)))))


class Attention(nn.Module):
    def __init__(self, channels=8, hidden=12):
        super().__init__()
        self.qkv, self.one = nn.Linear(channels, 3 * channels), nn.Linear(channels, hidden)
        self.two = nn.Linear(hidden, channels)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).chunk(3, -1)
        seen = torch.softmax(q @ k.transpose(1, 2) / c**0.5, -1) @ v
        return x + self.two(torch.relu(self.one(seen))).transpose(1, 2).reshape(b, c, h, w)


class Branch(Base):
    def forward(self, x):
        return x + self.update(x) if x.mean() > 0 else x


class TwoMasks(Base):
    def forward(self, x):
        return x + self.update(x) * self.mask(x) * self.mask(x)


class UnnamedLoop(Base):
    def forward(self, x, n=3):
        for _ in range(n):
            x = super().forward(x)
        return x


class Counter(Base):
    def __init__(self):
        super().__init__()
        self.age = 0

    def forward(self, x):
        self.age += 1
        return super().forward(x)


class BufferCounter(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("age", torch.zeros(()))

    def forward(self, x):
        self.age += 1
        return super().forward(x)


class ClampedUpdate(Base):
    def update(self, x):
        return super().update(x).clamp(-1, 1)


class ClampedPart(Base):
    def forward(self, x):
        new = super().forward(x)
        return torch.cat([new[:, :4].clamp(0, 1), new[:, 4:]], 1)


class ClampedToTensor(Base):
    def forward(self, x):
        return torch.minimum(super().forward(x), x.new_ones(()))


class Squashed(Base):
    def update(self, x):
        return torch.tanh(super().update(x)) * torch.linspace(0.1, 1, 8).view(1, 8, 1, 1)


class SquashedState(Base):
    def forward(self, x):
        return torch.tanh(super().forward(x))


class GatedLate(Base):
    def forward(self, x):
        dx = self.update(x) * self.mask(x)
        return x + dx * (F.max_pool2d((x + dx)[:, 3:4], 3, 1, 1) > 0.1)


class Normed(Base):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def hidden(self, y):
        return torch.relu(self.norm(self.one(y)))


class NormedLate(Normed):
    def hidden(self, y):
        return self.norm(torch.relu(self.one(y)))


class NormedState(Normed):
    def perceive(self, x):
        return super().perceive(self.norm(x))

    def hidden(self, y):
        return torch.relu(self.one(y))


class NormedTwice(Normed):
    def __init__(self, norm):
        super().__init__(norm)
        self.more = nn.Conv2d(12, 12, 1)

    def hidden(self, y):
        return torch.relu(self.norm(self.more(super().hidden(y))))


class NormedRows(Normed):
    """Layer norm of [B, C, H, W] normalises rows."""

    def hidden(self, y):
        return torch.relu(F.layer_norm(self.one(y), (y.shape[-1],)))


class NormedCells(Normed):
    """Group norm of each cell."""

    def hidden(self, y):
        z = self.one(y).movedim(1, -1)
        return torch.relu(self.norm(z.flatten(0, 2)).view_as(z).movedim(-1, 1))


class Shallow(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.a, self.b = nn.Conv2d(channels, 16, 3, padding=1), nn.Conv2d(16, channels, 1)

    def forward(self, x):
        return x + self.b(F.elu(self.a(x)))


class DroppedBefore(Base):
    def hidden(self, y):
        return torch.relu(F.dropout(self.one(y), 0.2))


class DroppedPlainly(Base):
    """Units that stay are not scaled."""

    def hidden(self, y):
        return super().hidden(y) * torch.bernoulli(torch.full((len(y), 12, *y.shape[2:]), 0.8))


class DroppedMaps(Base):
    def hidden(self, y):
        return F.dropout2d(super().hidden(y), 0.2)


class WalledLife(Base):
    """Cells at the border always live."""

    def forward(self, x):
        alive = F.max_pool2d(F.pad(x[:, 3:4], [1] * 4, value=1.0), 3, 1) > 0.1
        return (x + self.update(x)) * alive


class Noisy(Base):
    def forward(self, x):
        return super().forward(x) + 0.02 * torch.randn_like(x)


class Replacing(Base):
    def forward(self, x):
        return self.update(x)


class Decaying(Base):
    def forward(self, x):
        return 0.99 * x + self.update(x)


class PerChannel(Base):
    def mask(self, x):
        return (torch.rand_like(x) < 0.5).float()


class PerSample(Base):
    def mask(self, x):
        return (torch.rand_like(x[:, :1, :1, :1]) < 0.5).float()


class LearnedRate(Base):
    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.5))

    def mask(self, x):
        return (torch.rand_like(x[:, :1]) < self.rate).float()


class LearnedChance(LearnedRate):
    def mask(self, x):
        return torch.bernoulli(self.rate.clamp(0, 1).expand(len(x), 1, *x.shape[2:]))


class Alternating(Base):
    def forward(self, x, steps=4):
        for t in range(steps):
            x = super().forward(x) if t % 2 == 0 else x + self.update(x)
        return x


class ClampedLater(Base):
    def forward(self, x, steps=4):
        for t in range(steps):
            x = super().forward(x) if t == 0 else super().forward(x).clamp(-8, 8)
        return x


class Edge(Base):
    """Reads gradients of the state's size: not linear, though small values do not show it."""

    def perceive(self, x):
        gx = self.conv(x)
        return torch.cat([x, gx.abs()], 1)


class Wide(Base):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3, padding=4, dilation=4, groups=8)


class Detached(Base):
    def perceive(self, x):
        return super().perceive(x.detach())


class SmallRange(Base):
    def hidden(self, y):
        return F.hardtanh(self.one(y), -50, 50)


class Activated(Base):
    def __init__(self, activation):
        super().__init__()
        self.activation = activation

    def hidden(self, y):
        return self.activation(self.one(y))


class Mixed(Base):
    def hidden(self, y):
        z = self.one(y)
        return torch.cat([torch.relu(z[:, :6]), torch.tanh(z[:, 6:])], 1)


class Masked(Base):
    """Only cells with a large value of their own live: no pool."""

    def forward(self, x):
        return (x + self.update(x)) * (x[:, 3:4] > 0.1)


class Pair(Base):
    def forward(self, x):
        dx = self.update(x)
        return x + dx * self.mask(x), dx


class Unregistered(Base):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Conv2d(24, 12, 1)]

    def hidden(self, y):
        return torch.relu(self.layers[0](y))


class WithoutGradients(Base):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


def replaced():
    model = Base()
    forward = model.forward
    model.forward = lambda x: forward(x).clamp(-1, 1)
    return model


def hooked():
    model = Base()
    model.one.register_forward_hook(lambda module, args, out: out * 2)
    return model


def half_frozen():
    """Weights below a norm of their own: still a rule, and so not in REFUSED."""
    model = Base()
    nn.utils.parametrizations.weight_norm(model.one)
    return model


REFUSED = {
    "residual block": (Residual, "1x1"),
    "attention": (Attention, "attention: `bmm` at refused_steps.py"),
    "branch on data": (Branch, "branches on values of the state"),
    "two masks": (TwoMasks, "2 random masks"),
    "unnamed loop": (
        UnnamedLoop,
        "3 times; if that is a loop over steps, give the name of the argument that counts them",
    ),
    "counter": (Counter, "`age`"),
    "counter in a buffer": (BufferCounter, "age"),
    "clamp of the update": (ClampedUpdate, "something else than the whole state after the update is clamped"),
    "clamp of some channels": (ClampedPart, "something else than the whole state"),
    "minimum": (ClampedToTensor, "`minimum`"),
    "update scaled apart behind its tanh": (Squashed, "scaled apart behind its tanh"),
    "tanh of the state": (SquashedState, "tanh is only in a rule behind a layer"),
    "update gated by life after it": (GatedLate, "after the update gates the update"),
    "collected statistics": (lambda: Normed(nn.BatchNorm2d(12)), "num_batches_tracked"),
    "collected statistics of images": (lambda: Normed(nn.InstanceNorm2d(12, track_running_stats=True)), "running_mean"),
    "norm after the activation": (lambda: NormedLate(nn.GroupNorm(3, 12)), "`native_group_norm`"),
    "norm of the state": (lambda: NormedState(nn.InstanceNorm2d(8)), "only the hidden units"),
    "two layers with group norm": (lambda: NormedTwice(nn.GroupNorm(3, 12)), "2 hidden layers is not fused"),
    "layer norm of rows": (lambda: NormedRows(nn.Identity()), "a layer norm normalises something else"),
    "group norm of cells": (lambda: NormedCells(nn.GroupNorm(3, 12)), "a group norm normalises something else"),
    "no 1x1 hidden layer": (Shallow, "1x1 hidden layer"),
    "dropout before the activation": (DroppedBefore, "no 1x1 hidden layer"),
    "dropout without its factor": (DroppedPlainly, "not divided by the probability"),
    "dropout of whole channels": (DroppedMaps, "no 1x1 hidden layer"),
    "life at the border": (WalledLife, "max pool"),
    "noise": (Noisy, "noise"),
    "no residual": (Replacing, "adds no update"),
    "decay": (Decaying, "adds no update"),
    "mask per channel": (PerChannel, "one number per cell"),
    "mask per sample": (PerSample, "take any mask of cells as fire_mask="),
    "learned rate": (LearnedRate, "a parameter decides which cells update or live, a rule has a number there: 'rate'"),
    "learned probability": (LearnedChance, "a parameter decides which cells update or live"),
    "loop of two steps": (Alternating, "steps"),
    "clamp after the first step": (ClampedLater, "later ones run other operations"),
    "absolute value": (Edge, "abs"),
    "dilation": (Wide, "further than 3 cells: `convolution` at refused_steps.py"),
    "detached": (Detached, "gradient"),
    "hardtanh": (SmallRange, "hardtanh"),
    "mish": (lambda: Activated(nn.Mish()), "not in a rule, which has relu, gelu, elu, silu, tanh, leaky_relu: `mish`"),
    "sine": (lambda: Activated(torch.sin), "activation that is not in a rule, which has relu"),
    "ReLU6": (lambda: Activated(nn.ReLU6()), "leaky_relu: `ReLU6` at refused_steps.py"),
    "PReLU": (lambda: Activated(nn.PReLU()), "leaky_relu: `PReLU` at refused_steps.py"),
    "tanh's GELU": (lambda: Activated(nn.GELU("tanh")), "only the exact one is fused, not approximate='tanh': `gelu`"),
    "SELU": (lambda: Activated(nn.SELU()), "only the one with alpha=1 is fused, and no SELU: `elu`"),
    "two activations": (Mixed, "cat"),
    "life without pool": (Masked, "without a max pool"),
    "the update as a result": (Pair, "a result beside the state is computed inside the step"),
    "hook": (hooked, "hook"),
    "replaced forward": (replaced, "was replaced"),
    "weights that are not registered": (Unregistered, "no parameter of the module"),
    "no gradients": (WithoutGradients, "no gradient"),
}
