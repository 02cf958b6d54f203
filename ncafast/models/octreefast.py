"""BasicNCA2DFast and BasicNCA3DFast: the automata of one level of OctreeNCA.

The fast classes of MECLabTUDA/OctreeNCA, after Lemke et al., "OctreeNCA: Single-Pass 184 MP Segmentation on Consumer
Hardware" (BMVC 2025).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ncafast import check
from ncafast.layers import CONV
from ncafast.models.base import Rate
from ncafast.models.image import ImageNCA, start
from ncafast.rule import MAX_KERNEL, Rule
from ncafast.values import odd

_NORMS: dict[str, Callable[[int, int], nn.Module]] = {
    "batch": lambda ndim, width: (nn.BatchNorm2d, nn.BatchNorm3d)[ndim - 2](width, track_running_stats=False),
    "group": lambda ndim, width: nn.GroupNorm(1, width),
    "instance": lambda ndim, width: (nn.InstanceNorm2d, nn.InstanceNorm3d)[ndim - 2](width),
    "none": lambda ndim, width: nn.Identity(),
}


class BasicNCA2DFast(ImageNCA):
    """One learned filter of size k per channel (bias, reflect padding), a choice of norms, fixed image channels.

    Layout: state x [B, H, W, channel_n] float, image in the first `input_channels` channels. A cell updates with
    probability `fire_rate`, as in the original's fast classes (in its slow ones with 1 - fire_rate). Statistics of
    norm "batch" are those of the batch in training and in evaluation alike.

    state_dict: `fc0.*` [hidden_size, 2 channel_n, 1, ...], fc1.weight [channel_n - input_channels, hidden_size, 1,
    ...], `conv.*` [channel_n, 1, k, ...]; `bn.*` for the norms "batch" and "group".

    Args:
        channel_n: channels of the state.
        fire_rate: probability that a cell updates. The attribute may be changed later.
        device: where the parameters go, and `self.device`; default the CPU.
        hidden_size: width of the hidden layer.
        input_channels: channels of the image; they never change.
        init_method: "standard", whose last layer starts at 0, or "xavier" for both layers.
        kernel_size: filter size, odd.
        groups: kept for the original's signature, which does not look at it either.
        inplace_relu: as groups.
        normalization: "batch", "group" (one group), "instance" or "none". The original's "layer" fails unless the
            grid is as wide as the hidden layer.

    Raises:
        ValueError: an even kernel_size, a fire rate outside 0 to 1, another init_method or normalization, or
            input_channels not below channel_n.
    """

    fire_rate = Rate(above=False)
    _ndim = 2
    _filter_layers = ("conv",)
    _image_rows = False

    def __init__(
        self,
        channel_n: int,
        fire_rate: float,
        device: torch.device | str | None = None,
        hidden_size: int = 128,
        input_channels: int = 1,
        init_method: str = "standard",
        kernel_size: int = 7,
        groups: bool = False,
        inplace_relu: bool = False,
        normalization: str = "batch",
    ) -> None:
        super().__init__(channel_n, hidden_size, input_channels)
        channel_n, hidden_size, input_channels = self.channel_n, self.hidden_size, self.input_channels
        self.device = check.check_device(device)
        self.init_method, self.groups, self.inplace_relu = init_method, groups, inplace_relu
        self.kernel_size = kernel_size = odd("kernel_size", kernel_size, MAX_KERNEL)
        if normalization not in _NORMS:
            raise ValueError(f"normalization={normalization!r} is not allowed: it must be one of {', '.join(_NORMS)}")
        self.normalization = normalization
        self._rule = Rule(
            ndim=self._ndim,
            channels=channel_n,
            num_filters=1,
            kernel_size=(kernel_size,),
            filter_bias=True,
            padding="reflect",
            hidden=(hidden_size,),
            norm=normalization,
            norm_affine=normalization != "instance",
            mutable=(input_channels, channel_n),
        )
        self.fire_rate = fire_rate
        # The order of these lines is the order of the random numbers: one seed, the original's weights.
        make, reach = CONV[self._ndim], kernel_size // 2
        self.fc0 = make(2 * channel_n, hidden_size, kernel_size=1)
        self.fc1 = make(hidden_size, channel_n - input_channels, kernel_size=1, bias=False)
        self.conv = make(channel_n, channel_n, kernel_size, padding=reach, padding_mode="reflect", groups=channel_n)
        self.bn = _NORMS[normalization](self._ndim, hidden_size)
        start(self.fc0, self.fc1, init_method)
        self.to(self.device)

    def forward(
        self, x: Tensor, steps: int = 10, fire_rate: float | None = 0.5, **options: Any
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Run `steps` steps.

        Args:
            x: [B, *S, channel_n]; each side longer than kernel_size // 2.
            steps: NCA steps.
            fire_rate: kept for the original's signature, which takes the attribute instead, as here.
            **options: of `ncafast.rollout`: seed, fire_mask [steps, B or 1, 1, *S], states, memory, ...

        Returns:
            The state [B, *S, channel_n]; with states= (state, kept states [n, B, *S, channel_n]).

        Raises:
            ValueError: a wrong shape, or what `rollout` refuses.
        """
        last, kept = self._advance(x, self.rule, steps, options)
        return last if kept is None else (last, kept)


class BasicNCA3DFast(BasicNCA2DFast):
    """The same for volumes [B, X, Y, Z, channel_n], with three-dimensional layers."""

    _ndim = 3
