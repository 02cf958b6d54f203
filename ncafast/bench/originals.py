"""The published models in plain PyTorch, step by step: the baseline of the benchmark and the oracle of the tests.

Written anew from the papers' and notebooks' mathematics, with the originals' parameter names, in the originals' order
of construction and with their operations: this is what someone runs who runs the published code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Masks = Sequence[Tensor] | None  # per step [B, 1, *S], 0 or 1; None draws as the original does


def fired(mask: Tensor | None, x: Tensor, rate: float, *, above: bool) -> Tensor:
    """[B, 1, *S]: the mask given, or one drawn by comparing uniform numbers with the rate."""
    if mask is not None:
        return mask.to(x.dtype)
    uniform = torch.rand(x.shape[0], 1, *x.shape[2:], device=x.device)
    return (uniform > rate if above else uniform <= rate).to(x.dtype)


class Original(nn.Module):
    """A published automaton: `step` on [B, C, *S], and the loop around it in the published layout.

    Attributes:
        channels_last: whether the published layout is [B, *S, C].
    """

    channels_last = False

    def step(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One step of a state [B, C, *S]."""
        raise NotImplementedError

    def compile_step(self) -> None:
        """Compile the step, as shapes come: one compilation per shape."""
        self.step = torch.compile(self.step, dynamic=False)  # type: ignore[method-assign]

    def rollout(self, x: Tensor, steps: int, masks: Masks = None) -> Tensor:
        """`steps` steps of a state in the published layout."""
        if self.channels_last:
            x = x.movedim(-1, 1)
        for number in range(steps):
            x = self.step(x, None if masks is None else masks[number])
        return x.movedim(1, -1) if self.channels_last else x


class MaxNCA(Original):
    """Notebook "Classification NCA": x [B, H, W, C] -> (logits, x). `norm=False` leaves the batch norm out."""

    channels_last = True

    def __init__(
        self,
        channel_n: int = 16,
        fire_rate: float = 0.5,
        hidden_size: int = 128,
        input_channels: int = 3,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.fire_rate, self.input_channels = fire_rate, input_channels
        self.p0, self.p1 = (
            nn.Conv2d(channel_n, channel_n, 3, padding=1, padding_mode="reflect", groups=channel_n) for _ in range(2)
        )
        self.fc0 = nn.Conv2d(3 * channel_n, hidden_size, 1)
        self.bn = nn.BatchNorm2d(hidden_size, track_running_stats=False) if norm else nn.Identity()
        self.fc1 = nn.Conv2d(hidden_size, channel_n, 1, bias=False)
        self.fc2 = nn.Linear(channel_n, 128)
        self.fc3 = nn.Linear(128, 13)
        nn.init.zeros_(self.fc1.weight)

    def step(self, x: Tensor, mask: Tensor | None = None, fire_rate: float = 0.5) -> Tensor:
        """One step; the image channels are put back after it."""
        seen = torch.cat([x, self.p0(x), self.p1(x)], dim=1)
        update = self.fc1(F.relu(self.bn(self.fc0(seen))))
        moved = x + update * fired(mask, x, fire_rate, above=True)
        return torch.cat([x[:, : self.input_channels], moved[:, self.input_channels :]], dim=1)

    def forward(
        self, x: Tensor, steps: int = 32, fire_rate: float | None = 0.5, masks: Masks = None
    ) -> tuple[Tensor, Tensor]:
        """Classify after `steps` steps."""
        rate = self.fire_rate if fire_rate is None else fire_rate
        x = x.permute(0, 3, 1, 2)
        for number in range(steps):
            x = self.step(x, None if masks is None else masks[number], rate)
        features = x.flatten(2).max(dim=2).values
        return self.fc3(F.relu(self.fc2(features))), x.permute(0, 2, 3, 1)


class NCA2D(Original):
    """Notebook "Med-NCA": one step per call, x [B, C, H, W]."""

    def __init__(self, c: int = 16, h: int = 64, k: int = 1, fire_rate: float = 0.5) -> None:
        super().__init__()
        self.fire_rate = fire_rate
        self.perception = nn.Conv2d(c, c, k, padding=k // 2, groups=c)
        self.fc1 = nn.Conv2d(2 * c, h, 1)
        self.bn = nn.BatchNorm2d(h, track_running_stats=False)
        self.fc2 = nn.Conv2d(h, c - 1, 1)

    def step(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One step; channel 0 is the image."""
        seen = torch.cat([self.perception(x), x], dim=1)
        update = self.fc2(F.relu(self.bn(self.fc1(seen))))
        update = update * fired(mask, x, self.fire_rate, above=False)
        return x + F.pad(update, (0, 0, 0, 0, 1, 0))

    forward = step


def med_nca(
    model1: NCA2D, model2: NCA2D, image: Tensor, masks: tuple[Masks, Masks], steps: tuple[int, int] = (40, 20)
) -> Tensor:
    """The notebook's training step up to the prediction: image [B, 1, H, W] -> logits [B, 1, H, W]."""
    channels = model1.perception.in_channels
    coarse = F.interpolate(image, scale_factor=1 / 4, mode="bilinear")
    coarse = F.pad(coarse, (0, 0, 0, 0, 0, channels - 1))
    coarse = model1.rollout(coarse, steps[0], masks[0])
    hidden = F.interpolate(coarse[:, 1:], scale_factor=4, mode="bilinear")
    fine = torch.cat([image, hidden], dim=1)
    return model2.rollout(fine, steps[1], masks[1])[:, 1:2]


class OctreeNCA(Original):
    """The "fast" automaton of OctreeNCA, which is M3D-NCA's step written as convolutions: x [B, C, *S], 2 or 3 axes."""

    def __init__(self, ndim: int = 2, c: int = 16, h: int = 64, k: int = 3, fire_rate: float = 0.5, norm: bool = True):
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
        batch_norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[ndim]
        self.fire_rate = fire_rate
        self.fc0 = conv(2 * c, h, 1)
        self.fc1 = conv(h, c - 1, 1, bias=False)
        self.conv = conv(c, c, k, padding=k // 2, padding_mode="reflect", groups=c)
        self.bn = batch_norm(h, track_running_stats=False) if norm else nn.Identity()
        nn.init.zeros_(self.fc1.weight)

    def step(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One step; channel 0 is the image."""
        seen = torch.cat([x, self.conv(x)], dim=1)
        update = self.fc1(F.relu(self.bn(self.fc0(seen))))
        moved = x[:, 1:] + update * fired(mask, x, self.fire_rate, above=False)
        return torch.cat([x[:, :1], moved], dim=1)


class TextureNCA(Original):
    """Notebook "Emergent Dynamics" as intended: four filters for each channel, grouped convolution on a torus."""

    conv_kernels: Tensor

    def __init__(self, num_channels: int, hidden_neurons: int) -> None:
        super().__init__()
        x = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        laplacian, identity = torch.ones(3, 3), torch.zeros(3, 3)
        laplacian[1, 1], identity[1, 1] = -8, 1
        kernels = torch.stack([x, x.T, laplacian, identity]).unsqueeze(1)
        self.register_buffer("conv_kernels", kernels, persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(4 * num_channels, hidden_neurons), nn.ReLU(), nn.Linear(hidden_neurons, num_channels)
        )

    def step(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One step; every channel moves."""
        channels = x.shape[1]
        torus = F.pad(x, (1, 1, 1, 1), mode="circular")
        seen = F.conv2d(torus, self.conv_kernels.to(x.dtype).repeat(channels, 1, 1, 1), groups=channels)
        update = self.mlp(seen.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + update * fired(mask, x, 0.5, above=True)

    def forward(self, state: Tensor, steps: int, masks: Masks = None) -> Tensor:
        """`steps` steps of a state [B, C, H, W]."""
        return self.rollout(state, steps, masks)


class GrowingNCA(Original):
    """Growing tutorial of MECLab: x [B, H, W, C], its first and third axes swapped inside, Sobel / 8 turned."""

    channels_last = True

    def __init__(self, channel_n: int, fire_rate: float, device: str = "cpu", hidden_size: int = 128) -> None:
        super().__init__()
        self.fire_rate = fire_rate
        self.fc0 = nn.Linear(3 * channel_n, hidden_size)
        self.fc1 = nn.Linear(hidden_size, channel_n, bias=False)
        nn.init.zeros_(self.fc1.weight)
        self.to(device)

    def step(
        self, x: Tensor, mask: Tensor | None = None, rate: float | None = None, kernels: Sequence[Tensor] = ()
    ) -> Tensor:
        """One step of a state [B, C, W, H]."""
        before = _alive(x[:, 3:4])
        kernels = kernels or self.filters(x)
        seen = [x] + [F.conv2d(x, kernel, padding=1, groups=x.shape[1]) for kernel in kernels]
        hidden = F.relu(self.fc0(torch.cat(seen, dim=1).transpose(1, 3)))
        fires = fired(mask, x, self.fire_rate if rate is None else rate, above=True)
        x = x + self.fc1(hidden).transpose(1, 3) * fires
        return x * (before & _alive(x[:, 3:4]))

    def filters(self, x: Tensor, angle: float = 0.0) -> list[Tensor]:
        """Two kernels [C, 1, 3, 3], turned by `angle` degrees, in x's dtype."""
        turn = math.radians(angle)
        smooth, slope = (torch.tensor(v, device=x.device).double() for v in ([1.0, 2, 1], [-1.0, 0, 1]))
        dx = torch.outer(smooth, slope) / 8
        first = math.cos(turn) * dx - math.sin(turn) * dx.T
        second = math.sin(turn) * dx + math.cos(turn) * dx.T
        return [kernel.to(x.dtype).expand(x.shape[1], 1, 3, 3) for kernel in (first, second)]

    def rollout(self, x: Tensor, steps: int, masks: Masks = None) -> Tensor:
        """`steps` steps of a state [B, H, W, C]."""
        return self(x, steps, masks=masks)  # type: ignore[no-any-return]

    def forward(
        self, x: Tensor, steps: int = 1, fire_rate: float | None = None, angle: float = 0.0, masks: Masks = None
    ) -> Tensor:
        """`steps` steps of a state [B, H, W, C]."""
        x = x.transpose(1, 3)  # [B, C, W, H]
        kernels = self.filters(x, angle)
        for number in range(steps):
            mask = None if masks is None else masks[number].transpose(2, 3)
            x = self.step(x, mask, fire_rate, kernels)
        return x.transpose(1, 3)


class SelfClassifyingNCA(Original):
    """CAX's self-classifying example: state [B, H, W, C], dropout of whole cells in training, image re-imposed."""

    channels_last = True

    def __init__(
        self,
        channel_size: int = 20,
        perception_size: int = 80,
        hidden_layer_sizes: tuple[int, ...] = (80,),
        cell_dropout_rate: float = 0.5,
    ) -> None:
        super().__init__()
        self.rate = cell_dropout_rate
        sizes = [perception_size, *hidden_layer_sizes, channel_size]
        self.perceive, self.update = nn.Module(), nn.Module()
        self.perceive.conv = nn.Conv2d(channel_size, perception_size, 3, padding=1)
        layers = [nn.Conv2d(n, m, 1) for n, m in zip(sizes[:-1], sizes[1:], strict=True)]
        self.update.layers = nn.ModuleList(layers)

    def step(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One step; the last channel is the image and decides who is alive."""
        image, alive = x[:, -1:], _alive(x[:, -1:])
        *hidden, last = self.update.layers  # type: ignore[misc]
        update = F.relu(self.perceive.conv(x))  # type: ignore[operator]
        for layer in hidden:
            update = F.relu(layer(update))
        update = last(update)
        if self.training:
            update = update * fired(mask, x, self.rate, above=True) / (1 - self.rate)
        x = x + update
        x = x * (alive & _alive(x[:, -1:]))
        return torch.cat([x[:, :-1], image], dim=1)

    def forward(self, state: Tensor, num_steps: int = 1, masks: Masks = None) -> Tensor:
        """`num_steps` steps of a state [B, H, W, C]."""
        return self.rollout(state, num_steps, masks)


def _alive(channel: Tensor) -> Tensor:
    return F.max_pool2d(channel, kernel_size=3, stride=1, padding=1) > 0.1
