"""GrowingNCA: grows an image from one seed cell.

The model is Mordvintsev et al., "Growing Neural Cellular Automata" (Distill 2020); the form is the `CAModel` of the
growing tutorial of MECLabTUDA/M3D-NCA, whose checkpoint loads as it is. Google's own notebook differs in that its
filters stand channel by channel, its last layer has a bias, a step_size scales the update, and a cell updates with
probability fire_rate.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ncafast import check
from ncafast.filters import sobel
from ncafast.layers import Layers, bias, linear, matrix
from ncafast.models.base import Rate, RuleModule, channels_first
from ncafast.prediction import Channels
from ncafast.rule import Alive, Rule
from ncafast.values import whole


class GrowingNCA(RuleModule):
    """Fixed Sobel filters that may be turned, zero padding, alive mask before and after the update on channel 3.

    Layout: state x [B, H, W, channel_n] float; channels 0 to 2 are colour, channel 3 is alpha. `fire_rate` is the
    tutorial's: a cell updates when a uniform number is ABOVE it, so with probability 1 - fire_rate.

    The tutorial swaps axis 1 and 3 of x, so its "x" filter looks along axis 1 (H here), its "y" filter along axis 2;
    so does this class.

    state_dict: `fc0.*` [hidden_size, 3 channel_n], fc1.weight [channel_n, hidden_size].

    Args:
        channel_n: channels of the state, at least 4.
        fire_rate: used where `forward` is given fire_rate=None. The attribute may be changed later.
        device: where the parameters go, and `self.device`; default the CPU.
        hidden_size: width of the hidden layer.
    """

    channels_last = True

    _filters: Tensor
    fire_rate = Rate(above=True)
    _linear_layers = True

    def __init__(
        self,
        channel_n: int = 16,
        fire_rate: float = 0.5,
        device: torch.device | str | None = None,
        hidden_size: int = 128,
    ) -> None:
        super().__init__()
        self.device = check.check_device(device)
        self.channel_n = channel_n = whole("channel_n", channel_n, 4)
        self.hidden_size = hidden_size = whole("hidden_size", hidden_size, 1)
        self._rule = Rule(
            channels=channel_n,
            num_filters=2,
            hidden=(hidden_size,),
            alive=Alive(channel=3, threshold=0.1),
        )
        self.fire_rate = fire_rate
        self.fc0 = nn.Linear(3 * channel_n, hidden_size)
        self.fc1 = nn.Linear(hidden_size, channel_n, bias=False)
        nn.init.zeros_(self.fc1.weight)
        along_h, along_w = sobel(2, axis=-2), sobel(2, axis=-1)
        self.register_buffer("_filters", torch.stack((along_h, along_w)), persistent=False)
        self.to(self.device)

    def params(self, angle: float = 0.0) -> dict[str, Tensor]:
        """The rollout's tensors, with the filters turned by `angle` degrees."""
        return self._tensors(self.rule, angle)

    def _layers(self) -> Layers:
        return Layers((), hidden=(linear("fc0", self.fc0),), norms=(), update=linear("fc1", self.fc1))

    def _channels(self) -> Channels:
        return Channels(slice(0, 4), slice(4, self.channel_n), slice(0, 4))

    def _tensors(self, rule: Rule, angle: float = 0.0) -> dict[str, Tensor]:
        hidden, update = matrix(self.fc0), matrix(self.fc1)
        found = {
            "perceive.weight": self._turned(angle)[:, None].expand(-1, self.channel_n, -1, -1),
            "hidden.weight": hidden,
            "hidden.bias": bias(self.fc0, hidden),
            "update.weight": update,
        }
        if rule.update_bias:
            found["update.bias"] = bias(self.fc1, update)
        return found

    def forward(
        self,
        x: Tensor,
        steps: int = 1,
        fire_rate: float | None = None,
        angle: float = 0.0,
        **options: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Grow for `steps` steps.

        Args:
            x: [B, H, W, channel_n].
            steps: NCA steps.
            fire_rate: a cell updates with probability 1 - fire_rate; None means the constructor's.
            angle: of rotation of the filters, in degrees.
            **options: of `ncafast.rollout`: seed, fire_mask [steps, B or 1, 1, H, W], states, memory, ...

        Returns:
            The state [B, H, W, channel_n]; with states= (state, kept states [n, B, H, W, channel_n]).

        Raises:
            ValueError: a wrong shape, a fire rate outside 0 to 1, or what `rollout` refuses.
        """
        state = channels_first(x, self.channel_n, 2, "GrowingNCA")
        rule = self._rule_at(fire_rate)
        state, kept = self._run(state, rule, self._tensors(rule, angle), steps, **options)
        last = state.movedim(1, -1).contiguous()
        return last if kept is None else (last, kept.movedim(2, -1))

    def _turned(self, angle: float) -> Tensor:
        if angle == 0:
            return self._filters
        first, second = self._filters
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        return torch.stack((c * first - s * second, s * first + c * second))
