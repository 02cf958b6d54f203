"""BasicNCA3D: the automaton of one level of M3D-NCA.

The class of MECLabTUDA/M3D-NCA, after Kalkhof and Mukhopadhyay, "M3D-NCA: Robust 3D Segmentation with Built-in Quality
Control" (MICCAI 2023).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ncafast import check
from ncafast.models.base import Rate
from ncafast.models.image import ImageNCA, start
from ncafast.rule import MAX_KERNEL, Rule
from ncafast.values import odd


class BasicNCA3D(ImageNCA):
    """One learned k x k x k filter per channel (bias, reflect padding), batch norm, fixed image channels.

    Layout: state x [B, X, Y, Z, channel_n] float, image in the first `input_channels` channels. `fire_rate` is the
    original's: a cell updates when a uniform number is ABOVE it, so with probability 1 - fire_rate. Batch statistics
    normalise the hidden layer in training and in evaluation alike.

    The original swaps axis 1 and 4 of x before it convolves, so the axes of its filters are Y, Z, X; so are they here.

    state_dict: `fc0.*` [hidden_size, 2 channel_n], fc1.weight [channel_n, hidden_size], `p0.*` [channel_n, 1, k, k, k],
    `bn.*`.

    Args:
        channel_n: channels of the state.
        fire_rate: used where `forward` is given fire_rate=None. The attribute may be changed later.
        device: where the parameters go, and `self.device`; default the CPU.
        hidden_size: width of the hidden layer.
        input_channels: channels of the image; they never change.
        init_method: "standard", whose last layer starts at 0, or "xavier" for both dense layers.
        kernel_size: filter size, odd; M3D-NCA takes 7 for its coarsest level and 3 for the others.
        groups: kept for the original's signature, which does not look at it either.

    Raises:
        ValueError: an even kernel_size, a fire rate outside 0 to 1, another init_method, or input_channels not below
            channel_n.
    """

    fire_rate = Rate(above=True)
    _linear_layers = True
    _filter_layers = ("p0",)
    _filter_axes = (2, 0, 1)  # the filters' axes are Y, Z, X, the grid's X, Y, Z

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
    ) -> None:
        super().__init__(channel_n, hidden_size, input_channels)
        channel_n, hidden_size, input_channels = self.channel_n, self.hidden_size, self.input_channels
        self.device = check.check_device(device)
        self.init_method = init_method
        self.kernel_size = kernel_size = odd("kernel_size", kernel_size, MAX_KERNEL)
        self.groups = groups
        self._rule = Rule(
            ndim=3,
            channels=channel_n,
            num_filters=1,
            kernel_size=(kernel_size,),
            filter_bias=True,
            padding="reflect",
            hidden=(hidden_size,),
            norm="batch",
            mutable=(input_channels, channel_n),
        )
        self.fire_rate = fire_rate
        # The order of these lines is the order of the random numbers: one seed, the original's weights.
        self.fc0 = nn.Linear(2 * channel_n, hidden_size)
        self.fc1 = nn.Linear(hidden_size, channel_n, bias=False)
        reach = kernel_size // 2
        self.p0 = nn.Conv3d(channel_n, channel_n, kernel_size, padding=reach, padding_mode="reflect", groups=channel_n)
        self.bn = nn.BatchNorm3d(hidden_size, track_running_stats=False)
        start(self.fc0, self.fc1, init_method)
        self.to(self.device)

    def forward(
        self, x: Tensor, steps: int = 10, fire_rate: float | None = 0.5, **options: Any
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Run `steps` steps.

        Args:
            x: [B, X, Y, Z, channel_n]; each side longer than kernel_size // 2.
            steps: NCA steps.
            fire_rate: a cell updates with probability 1 - fire_rate; None means the constructor's. The default is the
                original's 0.5 whatever the constructor got, as there.
            **options: of `ncafast.rollout`: seed, fire_mask [steps, B or 1, 1, X, Y, Z], states, memory, ...

        Returns:
            The state [B, X, Y, Z, channel_n]; with states= (state, kept states [n, B, X, Y, Z, channel_n]).

        Raises:
            ValueError: a wrong shape, a fire rate outside 0 to 1, or what `rollout` refuses.
        """
        last, kept = self._advance(x, self._rule_at(fire_rate), steps, options)
        return last if kept is None else (last, kept)
