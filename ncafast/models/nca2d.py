"""NCA2D: the automaton of one level of Med-NCA.

The class of the segmentation notebook of MECLabTUDA/NCA-tutorial, after Kalkhof et al., "Med-NCA: Robust and
Lightweight Segmentation with Neural Cellular Automata" (IPMI 2023).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ncafast.layers import Layers, bias, conv, filters, matrix, norm, norm_tensors
from ncafast.models.base import Rate, RuleModule
from ncafast.rule import MAX_KERNEL, Rule
from ncafast.values import odd, whole


class NCA2D(RuleModule):
    """One learned k x k filter per channel (bias, zero padding), batch norm, fixed image channel.

    Layout: state x [B, c, H, W] float, image in channel 0. A cell updates with probability `fire_rate`. Batch
    statistics normalise the hidden layer in training and in evaluation alike.

    state_dict: `perception.*` [c, 1, k, k], `fc1.*` [h, 2 c, 1, 1] (columns: filtered channels, then the state),
    `bn.*`, `fc2.*` [c - input_channels, h, 1, 1].

    Args:
        c: channels of the state.
        h: width of the hidden layer.
        k: filter size, odd; Med-NCA takes 7 for the coarse level and 3 for the fine one.
        fire_rate: probability that a cell updates. The attribute may be changed later.
        input_channels: image channels, which never change; 1 in the notebook.

    Raises:
        ValueError: an even k, a fire rate outside 0 to 1, or input_channels not below c.
    """

    fire_rate = Rate(above=False)

    def __init__(
        self, c: int = 16, h: int = 64, k: int = 1, fire_rate: float = 0.5, *, input_channels: int = 1
    ) -> None:
        super().__init__()
        self.c = c = whole("c", c, 1)
        self.h = h = whole("h", h, 1)
        self.k = k = odd("k", k, MAX_KERNEL)
        self.input_channels = input_channels = whole("input_channels", input_channels, 0, c - 1)
        self._rule = Rule(
            channels=c,
            num_filters=1,
            kernel_size=(k,),
            filter_bias=True,
            hidden=(h,),
            norm="batch",
            update_bias=True,
            mutable=(input_channels, c),
        )
        self.fire_rate = fire_rate
        # The order of these lines is the order of the random numbers: one seed, the notebook's weights.
        self.perception = nn.Conv2d(c, c, kernel_size=k, padding=k // 2, groups=c)
        self.fc1 = nn.Conv2d(2 * c, h, kernel_size=1)
        self.bn = nn.BatchNorm2d(h, track_running_stats=False)
        self.fc2 = nn.Conv2d(h, c - input_channels, kernel_size=1)

    def _layers(self) -> Layers:
        return Layers(
            filters=(conv("perception", self.perception, 2),),
            hidden=(conv("fc1", self.fc1, 2),),
            norms=(norm("bn", self.bn, 2),),
            update=conv("fc2", self.fc2, 2),
        )

    def _norms(self) -> tuple[nn.Module]:
        return (self.bn,)

    def _tensors(self, rule: Rule) -> dict[str, Tensor]:
        """The notebook concatenates (filtered, state), a Rule (state, filtered)."""
        hidden, update = matrix(self.fc1), matrix(self.fc2)
        found = filters(rule, perception=self.perception)
        filtered, state = hidden.split((hidden.shape[1] - self.c, self.c), 1)
        found["hidden.weight"] = torch.cat((state, filtered), 1)
        found["hidden.bias"] = bias(self.fc1, hidden)
        found |= norm_tensors(rule, self.bn)
        found["update.weight"] = update
        if rule.update_bias:
            found["update.bias"] = bias(self.fc2, update)
        return found

    def forward(self, x: Tensor, steps: int = 1, **options: Any) -> Tensor | tuple[Tensor, Tensor]:
        """Run `steps` steps; the notebook calls its module once per step, which works here too but is slower.

        Args:
            x: [B, c, H, W].
            steps: NCA steps.
            **options: of `ncafast.rollout`: seed, fire_mask [steps, B or 1, 1, H, W], states, memory, ...

        Returns:
            The state [B, c, H, W]; with states= (state, kept states [n, B, c, H, W]).

        Raises:
            ValueError: a wrong shape, a fire rate outside 0 to 1, or what `rollout` refuses.
        """
        rule = self.rule
        state, kept = self._run(x, rule, self._tensors(rule), steps, **options)
        return state if kept is None else (state, kept)
