"""BasicNCA and BackboneNCA: the two-dimensional automata of MECLabTUDA/M3D-NCA, the second that of Med-NCA.

After Kalkhof et al., "Med-NCA: Robust and Lightweight Segmentation with Neural Cellular Automata" (IPMI 2023).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ncafast import check
from ncafast.filters import sobel
from ncafast.models.base import Rate
from ncafast.models.image import ImageNCA, start
from ncafast.rule import MAX_KERNEL, Rule
from ncafast.values import flag, odd


class _Swapped(ImageNCA):
    """What both share; a subclass gives the fields of its perception and makes the layers of it last."""

    fire_rate = Rate(above=True)
    _linear_layers = True

    def __init__(
        self,
        channel_n: int,
        fire_rate: float,
        device: torch.device | str | None,
        hidden_size: int,
        input_channels: int,
        batch_norm: bool,
        init_method: str = "standard",
        **perception: Any,
    ) -> None:
        super().__init__(channel_n, hidden_size, input_channels)
        self.device = check.check_device(device)
        self.batch_norm = self._normed = flag("batch_norm", batch_norm)
        self._rule = Rule(
            channels=self.channel_n,
            hidden=(self.hidden_size,),
            norm="batch" if batch_norm else "none",
            mutable=(self.input_channels, self.channel_n),
            **perception,
        )
        self.fire_rate = fire_rate
        # The order of these lines is the order of the random numbers: one seed, the original's weights.
        self.fc0 = nn.Linear(3 * self.channel_n, self.hidden_size)
        self.fc1 = nn.Linear(self.hidden_size, self.channel_n, bias=False)
        if batch_norm:
            self.bn = nn.BatchNorm2d(self.hidden_size, track_running_stats=False)
        start(self.fc0, self.fc1, init_method)

    def forward(
        self, x: Tensor, steps: int = 64, fire_rate: float | None = 0.5, **options: Any
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Run `steps` steps.

        Args:
            x: [B, H, W, channel_n].
            steps: NCA steps.
            fire_rate: a cell updates with probability 1 - fire_rate; None means the constructor's. The default is the
                original's 0.5 whatever the constructor got, as there.
            **options: of `ncafast.rollout`: seed, fire_mask [steps, B or 1, 1, H, W], states, memory, ...

        Returns:
            The state [B, H, W, channel_n]; with states= (state, kept states [n, B, H, W, channel_n]).

        Raises:
            ValueError: a wrong shape, a fire rate outside 0 to 1, or what `rollout` refuses.
        """
        last, kept = self._advance(x, self._rule_at(fire_rate), steps, options)
        return last if kept is None else (last, kept)


class BasicNCA(_Swapped):
    """Sobel filters, zero padding, fixed image channels; no norm, or batch norm.

    Layout: state x [B, H, W, channel_n] float, image in the first `input_channels` channels. `fire_rate` is the
    original's: a cell updates when a uniform number is ABOVE it, so with probability 1 - fire_rate.

    The original swaps axis 1 and 3 of x, so its first filter looks along H, its second along W; so do these.

    state_dict: `fc0.*` [hidden_size, 3 channel_n], fc1.weight [channel_n, hidden_size]; `bn.*` with batch_norm.

    Args:
        channel_n: channels of the state.
        fire_rate: used where `forward` is given fire_rate=None. The attribute may be changed later.
        device: where the parameters go, and `self.device`; default the CPU.
        hidden_size: width of the hidden layer.
        input_channels: channels of the image; they never change.
        init_method: "standard", whose last layer starts at 0, or "xavier" for both layers.
        batch_norm: whether batch statistics normalise the hidden layer, in training and evaluation alike, as in
            OctreeNCA's class of this name; in M3D-NCA's nothing does.

    Raises:
        ValueError: a fire rate outside 0 to 1, another init_method, or input_channels not below channel_n.
    """

    _sobel: Tensor

    def __init__(
        self,
        channel_n: int,
        fire_rate: float,
        device: torch.device | str | None = None,
        hidden_size: int = 128,
        input_channels: int = 1,
        init_method: str = "standard",
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__(channel_n, fire_rate, device, hidden_size, input_channels, batch_norm, init_method)
        self.init_method = init_method
        self.register_buffer("_sobel", torch.stack((sobel(2, axis=-2), sobel(2, axis=-1))), persistent=False)
        self.to(self.device)

    def _perception(self, rule: Rule) -> dict[str, Tensor]:
        return {"perceive.weight": self._sobel[:, None].expand(-1, self.channel_n, -1, -1)}


class BackboneNCA(_Swapped):
    """Two learned full convolutions (bias, reflect padding), fixed image channels; no norm, or batch norm.

    Layout and `fire_rate` are BasicNCA's. The original swaps axis 1 and 3 of x before it convolves, so the axes of its
    filters are W, H; so are they here.

    state_dict: `fc0.*` [hidden_size, 3 channel_n], fc1.weight [channel_n, hidden_size], `p0.*`, `p1.*`
    [channel_n, channel_n, k, k]; `bn.*` with batch_norm.

    Args:
        channel_n: channels of the state.
        fire_rate: used where `forward` is given fire_rate=None. The attribute may be changed later.
        device: where the parameters go, and `self.device`; default the CPU.
        hidden_size: width of the hidden layer.
        input_channels: channels of the image; they never change. M3D-NCA's class keeps 1 whatever it is given:
            take 1 for its weights. OctreeNCA's class heeds it.
        kernel_size: filter size, odd; only OctreeNCA's class has a choice.
        batch_norm: as in BasicNCA.

    Raises:
        ValueError: an even kernel_size, a fire rate outside 0 to 1, or input_channels not below channel_n.
    """

    _filter_layers = ("p0", "p1")
    _filter_axes = (1, 0)

    def __init__(
        self,
        channel_n: int,
        fire_rate: float,
        device: torch.device | str | None = None,
        hidden_size: int = 128,
        input_channels: int = 1,
        kernel_size: int = 3,
        *,
        batch_norm: bool = False,
    ) -> None:
        kernel_size = odd("kernel_size", kernel_size, MAX_KERNEL)
        super().__init__(
            channel_n,
            fire_rate,
            device,
            hidden_size,
            input_channels,
            batch_norm,
            perception="dense",
            dense_channels=2 * channel_n,
            kernel_size=(kernel_size,),
            filter_bias=True,
            padding="reflect",
        )
        self.kernel_size = kernel_size
        self.p0, self.p1 = (
            nn.Conv2d(self.channel_n, self.channel_n, kernel_size, padding=kernel_size // 2, padding_mode="reflect")
            for _ in range(2)
        )
        self.to(self.device)
