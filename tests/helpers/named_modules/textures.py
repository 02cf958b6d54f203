"""NoiseNCA, PENCA, DyNCA at one scale, and the growing step of Cells2Pixels: one call is one step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

SOBEL = [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]


def positions(x):
    """Two channels of coordinates from -1 to 1, at the cells' centres."""
    b, _, h, w = x.shape
    rows, columns = torch.arange(h, device=x.device) / h, torch.arange(w, device=x.device) / w
    rows, columns = 2.0 * (rows - 0.5 + 0.5 / h), 2.0 * (columns - 0.5 + 0.5 / w)
    grid = torch.zeros((2, h, w), device=x.device, dtype=x.dtype)
    grid[:1], grid[1:2] = rows[None, :, None], columns[None, None, :]
    return grid.unsqueeze(0).repeat(b, 1, 1, 1)


class NCA(nn.Module):
    """Five filters of each channel on a reshaped batch, the two second derivatives then added: channel-major."""

    padding = "circular"

    def __init__(self, chn=12, fc_dim=96, cond_chn=0, update_prob=1.0):
        super().__init__()
        self.chn, self.update_prob = chn, update_prob
        self.w1, self.w2 = nn.Conv2d(4 * chn + cond_chn, fc_dim, 1), nn.Conv2d(fc_dim, chn, 1, bias=False)
        nn.init.zeros_(self.w2.weight)
        same, sobel = torch.zeros(3, 3), torch.tensor(SOBEL)
        same[1, 1] = 1.0
        second = torch.tensor([[0.5, 0.0, 0.5], [2.0, -6.0, 2.0], [0.5, 0.0, 0.5]])
        self.filters = torch.stack([same, sobel, sobel.T, second, second.T])  # no buffer

    def perception(self, s, dx=1.0, dy=1.0):
        b, c, h, w = s.shape
        padded = F.pad(s.reshape(b * c, 1, h, w), [1, 1, 1, 1], self.padding)
        z = F.conv2d(padded, self.filters[:, None]).reshape(b, -1, h, w)
        if dx != 1.0 or dy != 1.0:
            scale = 1.0 / torch.tensor([1.0, dx, dy, dx**2, dy**2], device=s.device)
            z = z * scale.repeat(self.chn)[:, None, None]
        parts = [z[:, ::5], z[:, 1::5], z[:, 2::5], z[:, 3::5] + z[:, 4::5]]
        return torch.stack(parts, dim=2).reshape(b, -1, h, w)

    def adaptation(self, s, dx, dy):
        return self.w2(torch.relu(self.w1(self.perception(s, dx, dy))))

    def forward(self, s, dx=1.0, dy=1.0, dt=1.0):
        change, fires = self.adaptation(s, dx, dy), 1.0
        if self.update_prob < 1.0:
            fires = (torch.rand(s.shape[0], 1, *s.shape[2:], device=s.device) + self.update_prob).floor()
        return s + change * fires * dt


class NoiseNCA(NCA):
    """Every cell updates; the noise of the seed is a buffer."""

    def __init__(self, chn=12, fc_dim=96):
        super().__init__(chn, fc_dim)
        self.register_buffer("noise_level", torch.tensor([0.1]))


class PENCA(NCA):
    """Positions are two more channels, which the module keeps from call to call."""

    def __init__(self, chn=12, fc_dim=96):
        super().__init__(chn, fc_dim, cond_chn=2, update_prob=0.5)
        self.cached_grid = self.last_shape = None

    def adaptation(self, s, dx, dy):
        if self.cached_grid is None or self.last_shape != s.shape:
            self.cached_grid, self.last_shape = positions(s), s.shape
        return self.w2(torch.relu(self.w1(torch.cat([self.perception(s, dx, dy), self.cached_grid], dim=1))))


class DyNCA(nn.Module):
    """Replicated edges, a bias in the last layer; gives the state and its colours."""

    def __init__(self, c_in=12, fc_dim=96, c_out=3):
        super().__init__()
        self.c_in, self.c_out, self.padding_mode = c_in, c_out, "replicate"
        self.w1, self.w2 = nn.Conv2d(4 * c_in, fc_dim, 1), nn.Conv2d(fc_dim, c_in, 1)
        self.sobel_x = torch.tensor(SOBEL)
        self.sobel_y, self.laplacian = self.sobel_x.T, torch.tensor([[1.0, 2, 1], [2, -12, 2], [1, 2, 1]])

    def forward(self, x, update_rate=0.5):
        seen = [x]
        for kernel in (self.sobel_x, self.sobel_y, self.laplacian):
            padded = F.pad(x, [1, 1, 1, 1], self.padding_mode)
            seen.append(F.conv2d(padded, kernel.reshape(1, 1, 3, 3).repeat(self.c_in, 1, 1, 1), groups=self.c_in))
        y = self.w2(F.relu(self.w1(torch.cat(seen, dim=1))))
        x = x + y * (torch.rand(x.shape[0], 1, *x.shape[2:]) + update_rate).floor()
        return x, x[:, : self.c_out] * 2.0


class GrowingCells(NCA):
    """Alive before and after; gives the state and the perception before the step, from which an image is made."""

    def __init__(self, chn=16, fc_dim=96):
        super().__init__(chn, fc_dim, update_prob=0.5)

    @staticmethod
    def living(s):
        return F.max_pool2d(s[:, 3:4], 3, stride=1, padding=1) > 0.1

    def forward(self, s, dx=1.0, dy=1.0, dt=1.0):
        before, seen = self.living(s), self.perception(s, dx, dy)
        fires = (torch.rand(s.shape[0], 1, *s.shape[2:], device=s.device) + self.update_prob).floor()
        new = s + self.w2(torch.relu(self.w1(seen))) * fires * dt
        return new * torch.logical_and(before, self.living(new)).to(s.dtype), seen
