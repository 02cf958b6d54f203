"""MaxNCA: an image classifier that max-pools the state of an NCA.

The class of the classification notebook of MECLabTUDA/NCA-tutorial, after Deutges et al., "Neural Cellular Automata
for Lightweight, Robust and Explainable Classification of White Blood Cell Images" (2024, marrlab/WBC-NCA).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncafast import check
from ncafast.models.base import Rate
from ncafast.models.image import ImageNCA, start
from ncafast.rule import Rule
from ncafast.values import whole


class MaxNCA(ImageNCA):
    """Two learned 3x3 filters per channel (bias, reflect padding), batch norm, fixed image channels, max-pool head.

    Layout: state x [B, H, W, channel_n] float, image in the first `input_channels` channels, the others usually 0.
    `fire_rate` is the notebook's: a cell updates when a uniform number is ABOVE it, so with probability 1 - fire_rate.
    Batch statistics normalise the hidden layer in training and in evaluation alike.

    state_dict: `p0.*`, `p1.*` [channel_n, 1, 3, 3], `fc0.*` [hidden_size, 3 channel_n, 1, 1], `bn.*`, fc1.weight,
    `fc2.*`, `fc3.*`.

    Args:
        channel_n: channels of the state.
        fire_rate: used where `forward` is given fire_rate=None. The attribute may be changed later.
        device: kept in `self.device` (default: the first GPU, else the CPU); as in the notebook, nothing is moved.
        hidden_size: width of the hidden layer.
        input_channels: channels of the image; they never change.
        init_method: kept for the notebook's signature, which has one method and does not look at it either.
        num_classes: logits; 13 in the notebook.
    """

    fire_rate = Rate(above=True)
    _filter_layers = ("p0", "p1")

    def __init__(
        self,
        channel_n: int = 16,
        fire_rate: float = 0.5,
        device: torch.device | str | None = None,
        hidden_size: int = 128,
        input_channels: int = 3,
        init_method: str = "standard",
        *,
        num_classes: int = 13,
    ) -> None:
        super().__init__(channel_n, hidden_size, input_channels)
        channel_n, hidden_size, input_channels = self.channel_n, self.hidden_size, self.input_channels
        self.device = _device(device)
        self.init_method = init_method
        self.num_classes = num_classes = whole("num_classes", num_classes, 1)
        self._rule = Rule(
            channels=channel_n,
            num_filters=2,
            kernel_size=(3,),
            filter_bias=True,
            padding="reflect",
            hidden=(hidden_size,),
            norm="batch" if self._normed else "none",
            mutable=(input_channels, channel_n),
        )
        self.fire_rate = fire_rate
        # The order of these lines is the order of the random numbers: one seed, the notebook's weights.
        self.p0 = _filters(channel_n)
        self.p1 = _filters(channel_n)
        self.fc0 = self._layer(3 * channel_n, hidden_size)
        if self._normed:
            self.bn = nn.BatchNorm2d(hidden_size, track_running_stats=False)
        self.fc1 = self._layer(hidden_size, channel_n, bias=False)
        self.fc2 = nn.Linear(channel_n, 128)
        self.fc3 = nn.Linear(128, num_classes)
        start(self.fc0, self.fc1, "standard")

    def _layer(self, inputs: int, outputs: int, bias: bool = True) -> nn.Module:
        if self._linear_layers:
            return nn.Linear(inputs, outputs, bias)
        return nn.Conv2d(inputs, outputs, kernel_size=1, bias=bias)

    def forward(self, x: Tensor, steps: int = 32, fire_rate: float | None = 0.5, **options: Any) -> tuple[Tensor, ...]:
        """Run the automaton and classify its final state.

        Args:
            x: [B, H, W, channel_n].
            steps: NCA steps.
            fire_rate: a cell updates with probability 1 - fire_rate; None means the constructor's. The default is the
                notebook's 0.5 whatever the constructor got, as there.
            **options: of `ncafast.rollout`: seed, fire_mask [steps, B or 1, 1, H, W], states, memory, ...

        Returns:
            (logits [B, num_classes], x [B, H, W, channel_n]); with states= a third, the kept states
            [n, B, H, W, channel_n].

        Raises:
            ValueError: a wrong shape, a fire rate outside 0 to 1, or what `rollout` refuses.
        """
        last, kept = self._advance(x, self._rule_at(fire_rate), steps, options)
        logits = self._head(last.movedim(-1, 1))
        return (logits, last) if kept is None else (logits, last, kept)

    def _head(self, state: Tensor) -> Tensor:
        check.check_layer("fc2.weight", self.fc2.weight, state)
        pooled = F.adaptive_max_pool2d(state, (1, 1)).flatten(1)
        logits: Tensor = self.fc3(F.relu(self.fc2(pooled)))
        return logits


class WBCMaxNCA(MaxNCA):
    """The MaxNCA of marrlab/WBC-NCA: no norm, and layers of torch.nn.Linear.

    It swaps axis 1 and 3 of x before it convolves, so the axes of its filters are W, H; so are they here. Layout,
    `fire_rate`, arguments and result are MaxNCA's; `num_classes` is 13 there.

    state_dict: `p0.*`, `p1.*` [channel_n, 1, 3, 3], `fc0.*` [hidden_size, 3 channel_n], fc1.weight, `fc2.*`, `fc3.*`.
    """

    _linear_layers = True
    _normed = False
    _filter_axes = (1, 0)


def _filters(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, padding_mode="reflect")


def _device(device: torch.device | str | None) -> torch.device:
    if device is not None:
        return check.check_device(device)
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
