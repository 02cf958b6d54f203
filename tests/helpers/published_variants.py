"""Variants of published automata in plain PyTorch, from their mathematics: oracles that share no code with ours.

Parameters have the originals' names and are made in the originals' order. A call takes `masks`, one [B, 1, *S] of the
grid per step; without them it draws as the original does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

EDGE = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


def above(like, rate):
    """[B, H, W, 1]: 1 where a uniform number is above the rate."""
    return (torch.rand(*like.shape[:-1], 1) > rate).to(like)


def below(like, rate):
    """[B, 1, *S]: 1 with probability `rate`."""
    return torch.bernoulli(torch.full_like(like[:, :1], rate))


class Swapping(nn.Module):
    """[B, H, W, C], convolved as [B, C, W, H]; the image put back after each step."""

    def __init__(self, channel_n, fire_rate, hidden_size=128, input_channels=1, norm=False):
        super().__init__()
        self.channel_n, self.fire_rate, self.input_channels = channel_n, fire_rate, input_channels
        self.fc0 = nn.Linear(3 * channel_n, hidden_size)
        self.fc1 = nn.Linear(hidden_size, channel_n, bias=False)
        if norm:
            self.bn = nn.BatchNorm2d(hidden_size, track_running_stats=False)
        nn.init.zeros_(self.fc1.weight)

    def seen(self, x):
        bank = torch.tensor(EDGE, dtype=x.dtype) / 8
        both = [
            F.conv2d(x, k.expand(self.channel_n, 1, 3, 3), padding=1, groups=self.channel_n) for k in (bank, bank.T)
        ]
        return torch.cat([x, *both], 1)

    def forward(self, x, steps=64, fire_rate=0.5, masks=None):
        rate = self.fire_rate if fire_rate is None else fire_rate
        for n in range(steps):
            hidden = self.fc0(self.seen(x.transpose(1, 3)).transpose(1, 3))
            if hasattr(self, "bn"):
                hidden = self.bn(hidden.transpose(1, 3)).transpose(1, 3)
            change = self.fc1(hidden.relu())
            change = change * (above(change, rate) if masks is None else masks[n].movedim(1, -1))
            x = torch.cat([x[..., : self.input_channels], (x + change)[..., self.input_channels :]], -1)
        return x


class Dense(Swapping):
    """With two full convolutions in place of Sobel filters."""

    def __init__(self, channel_n, fire_rate, hidden_size=128, input_channels=1, kernel_size=3, norm=False):
        super().__init__(channel_n, fire_rate, hidden_size, input_channels, norm)
        for name in ("p0", "p1"):
            setattr(self, name, nn.Conv2d(channel_n, channel_n, kernel_size, padding="same", padding_mode="reflect"))

    def seen(self, x):
        return torch.cat([x, self.p0(x), self.p1(x)], 1)


class BloodCells(Swapping):
    """With two depthwise convolutions, and a head on the largest value of each channel."""

    def __init__(self, channel_n=16, fire_rate=0.5, hidden_size=128, input_channels=3):
        nn.Module.__init__(self)
        self.channel_n, self.fire_rate, self.input_channels = channel_n, fire_rate, input_channels
        same = {"padding": 1, "padding_mode": "reflect", "groups": channel_n}
        self.p0, self.p1 = nn.Conv2d(channel_n, channel_n, 3, **same), nn.Conv2d(channel_n, channel_n, 3, **same)
        self.fc0, self.fc1 = nn.Linear(3 * channel_n, hidden_size), nn.Linear(hidden_size, channel_n, bias=False)
        self.fc2, self.fc3 = nn.Linear(channel_n, 128), nn.Linear(128, 13)
        nn.init.zeros_(self.fc1.weight)

    seen = Dense.seen

    def forward(self, x, steps=32, fire_rate=0.5, masks=None):
        x = super().forward(x, steps, fire_rate, masks)
        return self.fc3(self.fc2(x.flatten(1, 2).max(1).values).relu()), x


class Fast(nn.Module):
    """[B, *S, C]: one depthwise filter, a norm, hidden channels alone computed; cells update with the rate itself."""

    def __init__(self, ndim, channel_n, fire_rate, hidden_size, input_channels=1, kernel_size=7, normalization="batch"):
        super().__init__()
        conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.fire_rate, self.inputs = fire_rate, input_channels
        self.fc0 = conv(2 * channel_n, hidden_size, 1)
        self.fc1 = conv(hidden_size, channel_n - input_channels, 1, bias=False)
        same = {"padding": (kernel_size - 1) // 2, "padding_mode": "reflect", "groups": channel_n}
        self.conv = conv(channel_n, channel_n, kernel_size, **same)
        if normalization == "batch":
            norm = nn.BatchNorm2d if ndim == 2 else nn.BatchNorm3d
            self.bn = norm(hidden_size, track_running_stats=False)
        elif normalization == "instance":
            self.bn = nn.InstanceNorm2d(hidden_size) if ndim == 2 else nn.InstanceNorm3d(hidden_size)
        else:
            self.bn = nn.GroupNorm(1, hidden_size) if normalization == "group" else nn.Identity()
        nn.init.zeros_(self.fc1.weight)

    def forward(self, x, steps=10, fire_rate=0.5, masks=None):
        state = x.movedim(-1, 1)
        for n in range(steps):
            change = self.fc1(self.bn(self.fc0(torch.cat([state, self.conv(state)], 1))).relu())
            change = change * (below(change, self.fire_rate) if masks is None else masks[n])
            state = torch.cat([state[:, : self.inputs], state[:, self.inputs :] + change], 1)
        return state.movedim(1, -1)


class Pyramid(nn.Module):
    """Levels of Fast, finest first; grids by nearest neighbour, states enlarged by repetition."""

    def __init__(self, res_and_steps, channel_n, hidden_size, input_channels, output_channels, kernels, separate=True):
        super().__init__()
        self.levels, self.channel_n = res_and_steps, channel_n
        self.inputs, self.outputs, self.ndim = input_channels, output_channels, len(res_and_steps[0][0])
        build = [Fast(self.ndim, channel_n, 0.5, hidden_size, input_channels, k) for k in kernels]
        if separate:
            self.backbone_ncas = nn.ModuleList(build)
        else:
            self.backbone_nca = build[0]

    def forward(self, x, masks):
        image = x if self.ndim == 2 else x.movedim(-1, 1)
        state = None
        for n in range(len(self.levels) - 1, -1, -1):
            size, steps = self.levels[n]
            picked = image
            for axis, cells in enumerate(size, start=2):
                from_cell = torch.arange(cells) * image.shape[axis] // cells
                picked = picked.index_select(axis, from_cell)
            if state is None:
                hidden = picked.new_zeros(len(x), self.channel_n - self.inputs, *size)
            else:
                hidden = state[:, self.inputs :]
                for axis, cells in enumerate(size, start=2):
                    hidden = hidden.repeat_interleave(cells // hidden.shape[axis], axis)
            level = self.backbone_nca if hasattr(self, "backbone_nca") else self.backbone_ncas[n]
            state = level(torch.cat([picked, hidden], 1).movedim(1, -1), steps, masks=masks[n]).movedim(-1, 1)
        state = state.movedim(1, -1)
        return state[..., self.inputs : self.inputs + self.outputs], state[..., self.inputs + self.outputs :]


def where(like):
    """[B, 2, H, W]: centres of the cells, -1 to 1."""
    b, _, h, w = like.shape
    rows = torch.tensor([2 * (i / h - 0.5 + 0.5 / h) for i in range(h)], dtype=like.dtype)
    columns = torch.tensor([2 * (i / w - 0.5 + 0.5 / w) for i in range(w)], dtype=like.dtype)
    return torch.stack([rows[:, None].repeat(1, w), columns[None].repeat(h, 1)]).repeat(b, 1, 1, 1)


class Noise(nn.Module):
    """Five fixed filters on each channel, merged to four; the columns of w1 channel by channel."""

    def __init__(self, chn, fc_dim, padding="circular", extra=0, update_prob=0.5, noise=None, alive=False):
        super().__init__()
        self.chn, self.padding, self.extra, self.update_prob, self.alive = chn, padding, extra, update_prob, alive
        self.w1 = nn.Conv2d(4 * chn + extra, fc_dim, 1)
        self.w2 = nn.Conv2d(fc_dim, chn, 1, bias=False)
        nn.init.xavier_normal_(self.w1.weight, gain=0.2)
        nn.init.zeros_(self.w2.weight)
        if noise is not None:
            self.register_buffer("noise_level", torch.tensor([noise]))

    def seen(self, s, dx, dy):
        x_edge = torch.tensor(EDGE, dtype=s.dtype)
        flat = torch.tensor([[0.5, 0.0, 0.5], [2.0, -6.0, 2.0], [0.5, 0.0, 0.5]], dtype=s.dtype)
        bank = torch.stack([x_edge / dx, x_edge.T / dy, flat / dx**2, flat.T / dy**2])[:, None]
        found = []
        for channel in s.split(1, 1):
            x, y, along_x, along_y = F.conv2d(F.pad(channel, [1] * 4, self.padding), bank).split(1, 1)
            found += [channel, x, y, along_x + along_y]
        return torch.cat(found, 1)

    def living(self, s):
        return F.max_pool2d(s[:, 3:4], 3, 1, 1) > 0.1

    def forward(self, s, dx=1.0, dy=1.0, dt=1.0, masks=None, condition=None, steps=1):
        for n in range(steps):
            seen = z = self.seen(s, dx, dy)
            if self.extra:
                seen = torch.cat([z, where(s) if condition is None else condition], 1)
            change = self.w2(self.w1(seen).relu())
            fires = below(s, self.update_prob) if masks is None else masks[n]
            new = s + change * fires * dt
            s = new * (self.living(s) & self.living(new)) if self.alive else new
        return s, z


class Dynamic(nn.Module):
    """Filters on padded states, columns filter by filter, then positions; bias in the last layer."""

    def __init__(self, c_in, c_out, fc_dim=96, padding_mode="replicate", pos_emb="CPE"):
        super().__init__()
        self.c_out, self.padding_mode, self.pos_emb = c_out, padding_mode, pos_emb
        self.w1 = nn.Conv2d(4 * c_in + (2 if pos_emb else 0), fc_dim, 1)
        nn.init.xavier_normal_(self.w1.weight, gain=0.2)
        self.w2 = nn.Conv2d(fc_dim, c_in, 1)
        nn.init.xavier_normal_(self.w2.weight, gain=0.1)
        nn.init.zeros_(self.w2.bias)

    def forward(self, x, update_rate=0.5, masks=None, steps=1):
        edge = torch.tensor(EDGE, dtype=x.dtype)
        lap = torch.tensor([[1.0, 2.0, 1.0], [2.0, -12.0, 2.0], [1.0, 2.0, 1.0]], dtype=x.dtype)
        for n in range(steps):
            padded = F.pad(x, [1] * 4, self.padding_mode)
            bank = [k.repeat(x.shape[1], 1, 1, 1) for k in (edge, edge.T, lap)]
            parts = [x, *(F.conv2d(padded, k, groups=x.shape[1]) for k in bank)]
            seen = torch.cat(parts + ([where(x)] if self.pos_emb else []), 1)
            fires = below(x, update_rate) if masks is None else masks[n]
            x = x + self.w2(self.w1(seen).relu()) * fires
        return x, 2 * x[:, : self.c_out], seen
