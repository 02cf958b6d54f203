"""Steps of public automata in plain PyTorch, spelled as their authors like to: what `accelerate` has to recognise."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SOBEL = [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]
LAPLACE = [[1.0, 2.0, 1.0], [2.0, -12.0, 2.0], [1.0, 2.0, 1.0]]


class Growing(nn.Module):
    """Channel-major grouped convolution with the identity among its filters, alive before and after."""

    def __init__(self, channels=12, hidden=24):
        super().__init__()
        self.fire_rate = 0.5
        eye = torch.zeros(3, 3)
        eye[1, 1] = 1
        bank = torch.stack([eye, torch.tensor(SOBEL) / 8, torch.tensor(SOBEL).T / 8])
        self.register_buffer("kernel", bank[:, None].repeat(channels, 1, 1, 1))
        self.dmodel = nn.Sequential(nn.Conv2d(3 * channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        nn.init.zeros_(self.dmodel[2].weight)

    @staticmethod
    def alive(x):
        return F.max_pool2d(x[:, 3:4], 3, stride=1, padding=1) > 0.1

    def step(self, x):
        before = self.alive(x)
        update = self.dmodel(F.conv2d(x, self.kernel, padding=1, groups=x.shape[1]))
        fires = torch.rand(x[:, :1].size(), device=x.device) <= self.fire_rate
        x = x + update * fires.float()
        return x * (before & self.alive(x)).float()

    def forward(self, x, steps=8):
        for _ in range(steps):
            x = self.step(x)
        return x


class Blood(nn.Module):
    """[B, H, W, C] by permute, batch statistics in training and evaluation, the image written back."""

    def __init__(self, channel_n=10, hidden_size=20, input_channels=3):
        super().__init__()
        self.inputs = input_channels
        both = {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "groups": channel_n}
        self.p0, self.p1 = nn.Conv2d(channel_n, channel_n, **both), nn.Conv2d(channel_n, channel_n, **both)
        self.fc0, self.fc1 = nn.Conv2d(3 * channel_n, hidden_size, 1), nn.Conv2d(hidden_size, channel_n, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden_size, track_running_stats=False)
        nn.init.zeros_(self.fc1.weight)

    def update(self, state, fire_rate):
        x = state.permute(0, 3, 1, 2)
        dx = torch.cat((x, self.p0(x), self.p1(x)), 1)
        dx = self.fc1(F.relu(self.bn(self.fc0(dx))))
        mask = torch.rand([dx.size(0), 1, dx.size(2), dx.size(3)]) > fire_rate
        return (x + dx * mask.float().to(dx.device)).permute(0, 2, 3, 1)

    def forward(self, x, steps=6, fire_rate=0.4):
        for _ in range(steps):
            new = self.update(x, fire_rate).clone()
            x = torch.concat((x[..., : self.inputs], new[..., self.inputs :]), 3)
        return x


class Swapped(nn.Module):
    """[B, H, W, C] by transpose(1, 3), so space is turned; Sobel filters made anew at each step; Linear layers."""

    def __init__(self, channel_n=9, hidden_size=16, dense=False):
        super().__init__()
        self.dense, self.channel_n = dense, channel_n
        if dense:
            self.p0 = nn.Conv2d(channel_n, channel_n, 3, padding=1, padding_mode="reflect")
            self.p1 = nn.Conv2d(channel_n, channel_n, 3, padding=1, padding_mode="reflect")
        self.fc0, self.fc1 = nn.Linear(3 * channel_n, hidden_size), nn.Linear(hidden_size, channel_n, bias=False)

    def perceive(self, x):
        if self.dense:
            return torch.cat((x, self.p0(x), self.p1(x)), 1)
        seen = [x]
        for kernel in (torch.tensor(SOBEL) / 8.0, torch.tensor(SOBEL).T / 8.0):
            weights = kernel.view(1, 1, 3, 3).repeat(self.channel_n, 1, 1, 1)
            seen.append(F.conv2d(x, weights, padding=1, groups=self.channel_n))
        return torch.cat(seen, 1)

    def update(self, x_in):
        x = x_in.transpose(1, 3)
        dx = self.fc1(F.relu(self.fc0(self.perceive(x).transpose(1, 3))))
        stochastic = torch.rand([dx.size(0), dx.size(1), dx.size(2), 1]) > 0.5
        x = x + (dx * stochastic.float()).transpose(1, 3)
        return x.transpose(1, 3)

    def forward(self, x, steps=5):
        for _ in range(steps):
            x = torch.cat((x[..., :1], self.update(x)[..., 1:]), 3)
        return x


class Turned(Swapped):
    """Its mask is dropout of a transposed tensor, and so drawn in another order than it is read."""

    def update(self, x_in):
        x = x_in.transpose(1, 3)
        dx = self.fc1(torch.relu(self.fc0(self.perceive(x).transpose(1, 3)))).transpose(1, 3)
        return (x + dx * F.dropout(torch.ones_like(x[:, :1]), 0.3)).transpose(1, 3)


class Volume(nn.Module):
    """3-D by transpose(1, 4), one depthwise filter of 5, batch statistics."""

    def __init__(self, channel_n=6, hidden_size=12):
        super().__init__()
        self.p0 = nn.Conv3d(channel_n, channel_n, 5, padding=2, padding_mode="reflect", groups=channel_n)
        self.fc0, self.fc1 = nn.Linear(2 * channel_n, hidden_size), nn.Linear(hidden_size, channel_n, bias=False)
        self.bn = nn.BatchNorm3d(hidden_size, track_running_stats=False)

    def forward(self, x, steps=3):
        for _ in range(steps):
            y = x.transpose(1, 4)
            dx = self.fc0(torch.cat((y, self.p0(y)), 1).transpose(1, 4)).transpose(1, 4)
            dx = self.fc1(F.relu(self.bn(dx)).transpose(1, 4))
            dx = dx * (torch.rand([*dx.shape[:4], 1]) > 0.5).float()
            x = torch.cat((x[..., :1], (x + dx)[..., 1:]), 4)
        return x


class Segmenting(nn.Module):
    """Convolution first, then the state; the last layer leaves channel 0 out, which is padded in front."""

    def __init__(self, c=8, h=16, k=5):
        super().__init__()
        self.perception = nn.Conv2d(c, c, k, padding=k // 2, groups=c)
        self.fc1, self.bn = nn.Conv2d(2 * c, h, 1), nn.BatchNorm2d(h, track_running_stats=False)
        self.fc2 = nn.Conv2d(h, c - 1, 1)

    def forward(self, x, steps: int = 1):
        for _ in range(steps):
            dx = self.fc2(torch.relu(self.bn(self.fc1(torch.cat((self.perception(x), x), 1)))))
            dx = dx * (torch.rand(x.shape[0], 1, *x.shape[2:], device=x.device) <= 0.7)
            x = x + F.pad(dx, (0, 0, 0, 0, 1, 0))
        return x


class Texture(nn.Module):
    """Filters on single channels of a reshaped batch, identity last, wrapping; no loop of its own."""

    def __init__(self, channels=7, hidden=14):
        super().__init__()
        eye = torch.zeros(3, 3)
        eye[1, 1] = 1
        lap = torch.ones(3, 3)
        lap[1, 1] = -8
        self.bank = torch.stack([torch.tensor(SOBEL), torch.tensor(SOBEL).T, lap, eye])[:, None]
        self.w1, self.w2 = nn.Linear(4 * channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x):
        b, c, h, w = x.shape
        y = F.pad(x.reshape(b * c, 1, h, w), [1, 1, 1, 1], "circular")
        y = F.conv2d(y, self.bank).reshape(b, -1, h, w).permute(0, 2, 3, 1)
        dx = self.w2(torch.relu(self.w1(y))).permute(0, 3, 1, 2)
        return x + dx * (torch.rand(b, 1, h, w) > 0.5)


class Filters(nn.Module):
    """A list of learned depthwise filters, frozen image channels, alive after the update only."""

    def __init__(self, num_channels=11, hidden=18, fire_rate=0.8, act=nn.GELU):
        super().__init__()
        make = lambda: nn.Conv2d(num_channels, num_channels, 3, padding=1, groups=num_channels, bias=False)  # noqa: E731
        self.filters = nn.ModuleList([make(), make()])
        last = nn.Conv2d(hidden, num_channels, 1, bias=False)
        self.rule = nn.Sequential(nn.Conv2d(3 * num_channels, hidden, 1), act(), last)
        self.fire_rate = fire_rate

    def _update(self, x):
        dx = self.rule(torch.cat([x] + [f(x) for f in self.filters], 1))
        if self.fire_rate < 1:
            dx = dx * (torch.rand([dx.size(0), 1, dx.size(2), dx.size(3)]) < self.fire_rate).float()
        dx[:, :2] *= 0
        x = x + dx
        return x * (F.max_pool2d(x[:, 3:4], kernel_size=3, stride=1, padding=1) > 0.1).float()

    def forward(self, x, steps=4):
        for _ in range(steps):
            x = self._update(x)
        return x


class Digits(nn.Module):
    """Dense perception with its own activation, two hidden layers of it, inverted dropout, the image imposed anew."""

    def __init__(self, channels=10, hidden=16):
        super().__init__()
        self.perception = nn.Conv2d(channels, hidden, 3, padding=1)
        self.one, self.two = nn.Conv2d(hidden, hidden, 1), nn.Conv2d(hidden, hidden, 1)
        self.last, self.drop = nn.Conv2d(hidden, channels, 1), nn.Dropout(0.5)

    def living(self, x):
        return F.max_pool2d(x[:, -1:], 3, 1, 1) > 0.1

    def forward(self, x, n_steps=4):
        for _ in range(n_steps):
            image, before = x[:, -1:], self.living(x)
            update = self.last(torch.relu(self.two(torch.relu(self.one(torch.relu(self.perception(x)))))))
            x = x + update * self.drop(torch.ones_like(x[:, :1]))
            x = x * before * self.living(x)
            x = torch.cat([x[:, :-1], image], 1)
        return x


class Octree(nn.Module):
    """bernoulli_ of an empty tensor, the inputs concatenated again."""

    def __init__(self, channels=9, inputs=2, hidden=16):
        super().__init__()
        self.inputs, self.fire_rate = inputs, 0.6
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", groups=channels)
        self.fc0 = nn.Conv2d(2 * channels, hidden, 1)
        self.fc1 = nn.Conv2d(hidden, channels - inputs, 1, bias=False)

    def update(self, state):
        delta = self.fc1(F.leaky_relu(self.fc0(torch.cat([state, self.conv(state)], dim=1)), 0.2))
        with torch.no_grad():
            mask = torch.empty(delta.size(0), 1, *delta.shape[2:], device=delta.device).bernoulli_(p=self.fire_rate)
        return torch.cat([state[:, : self.inputs], state[:, self.inputs :] + delta * mask], dim=1)

    def forward(self, x, steps=5):
        for _ in range(steps):
            x = self.update(x)
        return x


class Noise(nn.Module):
    """Four filters made of five, channel-major, wrapping, a step size, floor(rand + p)."""

    def __init__(self, chn=6, fc_dim=12):
        super().__init__()
        self.chn = chn
        lap = torch.tensor([[0.5, 0.0, 0.5], [2.0, -6.0, 2.0], [0.5, 0.0, 0.5]])
        eye = torch.zeros(3, 3)
        eye[1, 1] = 1
        self.register_buffer("filters", torch.stack([eye, torch.tensor(SOBEL), torch.tensor(SOBEL).T, lap, lap.T]))
        self.w1, self.w2 = nn.Conv2d(4 * chn, fc_dim, 1), nn.Conv2d(fc_dim, chn, 1, bias=False)

    def perceive(self, x):
        merged = torch.cat([self.filters[:3], (self.filters[3] + self.filters[4])[None]])
        padded = F.pad(x, [1, 1, 1, 1], mode="circular")
        return F.conv2d(padded, merged.repeat(self.chn, 1, 1).unsqueeze(1), groups=self.chn)

    def forward(self, x, dt=0.5, update_prob=0.3):
        y = self.w2(torch.relu(self.w1(self.perceive(x))))
        mask = (torch.rand(x.shape[0], 1, x.shape[2], x.shape[3]) + update_prob).floor()
        return x + y * mask * dt


class Dynamic(nn.Module):
    """Replicated edges, a bias in the last layer, filters on channels taken one by one."""

    def __init__(self, c_in=6, fc_dim=10):
        super().__init__()
        self.register_buffer("sobel", torch.tensor(SOBEL))
        self.register_buffer("laplacian", torch.tensor(LAPLACE))
        self.w1, self.w2 = nn.Conv2d(4 * c_in, fc_dim, 1), nn.Conv2d(fc_dim, c_in, 1)

    def forward(self, x, iters=4):
        for _ in range(iters):
            b, c, h, w = x.shape
            padded = F.pad(x, [1] * 4, mode="replicate").reshape(b * c, 1, h + 2, w + 2)
            seen = [
                F.conv2d(padded, f[None, None]).reshape(x.shape) for f in (self.sobel, self.sobel.t(), self.laplacian)
            ]
            update = self.w2(F.silu(self.w1(torch.cat([x, *seen], dim=1))))
            x = x + update * torch.floor(torch.rand(b, 1, h, w) + 0.5)
        return x


class Shifted(nn.Module):
    """Neighbours by torch.roll, matrices multiplied from the left, every cell updates."""

    def __init__(self, channels=5, hidden=11):
        super().__init__()
        self.a, self.b = (
            nn.Parameter(torch.randn(hidden, 3 * channels) / 4),
            nn.Parameter(torch.randn(channels, hidden) / 4),
        )
        self.bias = nn.Parameter(torch.zeros(hidden))

    def step(self, x):
        dx, dy = torch.roll(x, -1, 3) - torch.roll(x, 1, 3), torch.roll(x, -1, 2) - torch.roll(x, 1, 2)
        seen = torch.cat([x, dx / 2, dy / 2], 1).flatten(2)
        hidden = torch.tanh(torch.matmul(self.a, seen) + self.bias[:, None])
        return x + 0.1 * torch.matmul(self.b, hidden).view_as(x)


class Line(nn.Module):
    """1-D, no random mask, ELU, the last layer's result subtracted."""

    def __init__(self, channels=8, hidden=16):
        super().__init__()
        self.near = nn.Conv1d(channels, 2 * channels, 3, padding=1, groups=channels)
        self.net = nn.Sequential(nn.Conv1d(2 * channels, hidden, 1), nn.ELU(), nn.Conv1d(hidden, channels, 1))

    def forward(self, x, steps=5):
        for _ in range(steps):
            x = x - self.net(self.near(x))
        return x


class Unfolded(nn.Module):
    """Patches by F.unfold, filters as a matrix, einsum for the layers; alive before the update only."""

    def __init__(self, channels=6, hidden=13):
        super().__init__()
        self.taps = nn.Parameter(torch.randn(2, 9) / 3)
        self.w1, self.b1 = nn.Parameter(torch.randn(3 * channels, hidden) / 4), nn.Parameter(torch.randn(hidden) / 4)
        self.w2 = nn.Parameter(torch.randn(hidden, channels) / 4)

    def step(self, x):
        b, c, h, w = x.shape
        patches = F.unfold(x, 3, padding=1).view(b, c, 9, h, w)
        seen = torch.einsum("bckhw,fk->bfchw", patches, self.taps).reshape(b, -1, h, w)
        hidden = torch.relu(torch.einsum("bphw,pq->bhwq", torch.cat([x, seen], 1), self.w1) + self.b1)
        dx = torch.einsum("bhwq,qc->bchw", hidden, self.w2)
        alive = (F.max_pool2d(x[:, 2], 5, stride=1, padding=2) > 0.2)[:, None]
        return (x + dx * (torch.rand_like(x[:, :1]) < 0.5)) * alive


class Registered(nn.Module):
    """Dense 3-D perception with stored statistics, as in image registration."""

    def __init__(self, channels=4, hidden=9):
        super().__init__()
        self.perceive = nn.Conv3d(channels, 6, 3, padding=1, padding_mode="replicate")
        self.hidden, self.norm = nn.Conv3d(6 + channels, hidden, 1), nn.BatchNorm3d(hidden)
        self.out = nn.Conv3d(hidden, channels, 1, bias=False)

    def forward(self, x, steps=3):
        for _ in range(steps):
            y = self.norm(self.hidden(torch.cat([x, self.perceive(x)], 1)))
            x = x + self.out(torch.relu(y)) * (torch.rand(x.shape[0], 1, *x.shape[2:]) < 0.5).to(x.dtype)
        return x


class TwoHidden(nn.Module):
    """Two hidden layers in [B, H, W, C], the state restored by a mask of channels, a step with a hidden call inside."""

    def __init__(self, channels=9, hidden=(16, 12)):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=channels, bias=False)
        self.layers = nn.Sequential(
            nn.Linear(3 * channels, hidden[0]),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden[0], hidden[1]),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden[1], channels, bias=False),
        )
        self.register_buffer("free", (torch.arange(channels) >= 2).float())

    def one_step(self, state):
        x = state.movedim(-1, 1)
        y = torch.cat([self.conv(x), x], 1).movedim(1, -1)
        fires = (torch.rand(*state.shape[:-1], 1, device=state.device) < 0.25).to(state)
        return state + self.layers(y) * fires * self.free


class Normed(nn.Module):
    """Octree's step with a norm of the hidden units of each image or volume, 2-D and 3-D."""

    def __init__(self, norm, channels=7, inputs=1, hidden=12, ndim=2, kernel=3):
        super().__init__()
        self.inputs = inputs
        conv = (nn.Conv2d, nn.Conv3d)[ndim - 2]
        self.conv = conv(channels, channels, kernel, padding=kernel // 2, padding_mode="reflect", groups=channels)
        self.fc0, self.fc1 = conv(2 * channels, hidden, 1), conv(hidden, channels - inputs, 1, bias=False)
        self.bn = norm(hidden)

    def forward(self, x, steps=4):
        for _ in range(steps):
            delta = self.fc1(torch.relu(self.bn(self.fc0(torch.cat([x, self.conv(x)], dim=1)))))
            mask = torch.empty(delta.size(0), 1, *delta.shape[2:]).bernoulli_(p=0.5)
            x = torch.cat([x[:, : self.inputs], x[:, self.inputs :] + delta * mask], dim=1)
        return x


class LayerNormed(nn.Module):
    """A layer norm of each cell's hidden units in [B, H, W, C], one for each of two hidden layers."""

    def __init__(self, channels=8, hidden=(14, 10), **norm):
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="circular", groups=channels)
        widths = (2 * channels, *hidden)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, hidden, strict=False))
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-3, **norm) for width in hidden)
        self.out = nn.Linear(hidden[-1], channels)

    def forward(self, x, n_steps=3):
        for _ in range(n_steps):
            y = torch.cat([x, self.near(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)], -1)
            for layer, norm in zip(self.layers, self.norms, strict=True):
                y = F.gelu(norm(layer(y)))
            x = x + 0.25 * self.out(y) * (torch.rand(*x.shape[:3], 1) < 0.5)
        return x


class Grouped(nn.Module):
    """F.group_norm with parameters of its own and no bias, units flattened to [B, H, N]; a step alone."""

    def __init__(self, channels=6, hidden=15, groups=5):
        super().__init__()
        self.groups, self.gain = groups, nn.Parameter(torch.ones(hidden))
        self.near = nn.Conv2d(channels, 3, 3, padding=1)
        self.one, self.two = nn.Conv1d(3 + channels, hidden, 1), nn.Conv1d(hidden, channels, 1)

    def step(self, x):
        seen = torch.cat([self.near(x), x], 1).flatten(2)
        units = F.group_norm(self.one(seen), self.groups, weight=self.gain, eps=1e-4)
        return x + self.two(F.elu(units)).view_as(x)


class Chosen(nn.Module):
    """torch.where for the update and the dead, options in an object of their own, filters as an array of numpy."""

    def __init__(self, fire=0.5):
        super().__init__()
        self.options = SimpleNamespace(channels=7, fire=fire)
        self.edge = np.array(SOBEL, np.float32)
        self.mlp = nn.ModuleDict({"a": nn.Conv2d(21, 15, 1), "b": nn.Conv2d(15, 7, 1)})

    def forward(self, grid):
        bank = torch.from_numpy(np.stack([self.edge, self.edge.T])).to(grid.device)
        seen = [F.conv2d(grid[:, c : c + 1], bank[:, None], padding="same") for c in range(self.options.channels)]
        new = grid + self.mlp["b"](F.relu(self.mlp["a"](torch.cat([grid, *seen], 1))))
        new = torch.where(torch.rand(len(grid), 1, *grid.shape[2:]) < self.options.fire, new, grid)
        dead = ~(F.max_pool2d(new[:, :1], 3, 1, 1) > 0.05)
        return new.masked_fill(dead, 0.0)


def running() -> Registered:
    """With statistics that are no longer those of a new layer, in evaluation."""
    model = Registered()
    model.norm.running_mean.uniform_(-0.2, 0.2)
    model.norm.running_var.uniform_(0.5, 1.5)
    return model.eval()


def stored() -> Normed:
    """Instance norm with stored statistics, which in evaluation are those of a batch norm."""
    model = Normed(lambda width: nn.InstanceNorm2d(width, affine=True, track_running_stats=True))
    model.bn.running_mean.uniform_(-0.2, 0.2)
    model.bn.running_var.uniform_(0.5, 1.5)
    return model.eval()


MODULES = {
    "growing": Growing,
    "blood cells": Blood,
    "swapped axes": Swapped,
    "swapped axes, dense": lambda: Swapped(dense=True),
    "turned draws": Turned,
    "volume": Volume,
    "segmenting": Segmenting,
    "texture": Texture,
    "learned filters": Filters,
    "every cell": lambda: Filters(fire_rate=1.0, act=nn.SiLU),
    "digits": Digits,
    "digits in evaluation": lambda: Digits().eval(),
    "octree": Octree,
    "noise": Noise,
    "dynamic": Dynamic,
    "shifted": Shifted,
    "line": Line,
    "unfolded": Unfolded,
    "stored statistics": running,
    "two hidden layers": TwoHidden,
    "chosen": Chosen,
    "group norm": lambda: Normed(lambda width: nn.GroupNorm(1, width)),
    "group norm in 3-D": lambda: Normed(lambda width: nn.GroupNorm(4, width, affine=False), ndim=3, kernel=5),
    "group norm without bias": Grouped,
    "instance norm": lambda: Normed(lambda width: nn.InstanceNorm2d(width, affine=True)),
    "instance norm in 3-D": lambda: Normed(nn.InstanceNorm3d, ndim=3),
    "instance norm, stored statistics": stored,
    "layer norm": LayerNormed,
    "layer norm without parameters": lambda: LayerNormed(elementwise_affine=False),
    "layer norm without bias": lambda: LayerNormed(hidden=(11,), bias=False),
}
