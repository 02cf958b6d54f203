"""TextureNCA: the NCA of the notebook for "Emergent Dynamics in Neural Cellular Automata".

The paper is arXiv 2404.06406; the notebook calls its class NCA. As written it fails for more than one channel (four
filters for all channels together, a mask with its axes in another order); this is what it means to do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ncafast.layers import Layers, activation, bias, check_call, linear, matrix
from ncafast.models.base import Rate, RuleModule
from ncafast.prediction import Channels
from ncafast.rule import Rule
from ncafast.values import whole

_FILTERS = (
    ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),  # x gradient
    ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),  # y gradient
    ((1, 1, 1), (1, -8, 1), (1, 1, 1)),  # Laplacian
    ((0, 0, 0), (0, 1, 0), (0, 0, 0)),  # identity
)


class TextureNCA(RuleModule):
    """Four fixed filters per channel, unscaled, on a torus; every channel mutable; both layers with bias.

    Layout: state [B, num_channels, H, W] float. A cell updates with probability 1/2.

    state_dict: `mlp.0.*` [hidden_neurons, 4 num_channels], `mlp.2.*` [num_channels, hidden_neurons]. Columns of mlp.0
    go channel by channel, (x gradient, y gradient, Laplacian, identity) of channel 0 first: the order in which a
    grouped convolution with four filters per channel gives them. The notebook's 1-channel case fits any order.

    Args:
        num_channels: channels of the state.
        hidden_neurons: width of the hidden layer.
        fire_rate: probability that a cell updates; 0.5 in the notebook. The attribute may be changed later.
    """

    conv_kernels: Tensor
    fire_rate = Rate(above=False)
    _linear_layers = True

    def __init__(self, num_channels: int, hidden_neurons: int, *, fire_rate: float = 0.5) -> None:
        super().__init__()
        self.num_channels = num_channels = whole("num_channels", num_channels, 1)
        self.hidden_neurons = hidden_neurons = whole("hidden_neurons", hidden_neurons, 1)
        self._rule = Rule(
            channels=num_channels,
            num_filters=3,
            padding="circular",
            hidden=(hidden_neurons,),
            update_bias=True,
        )
        self.fire_rate = fire_rate
        # Not in the state_dict, as in the notebook; a buffer, so that it follows .to().
        kernels = torch.tensor(_FILTERS, dtype=torch.get_default_dtype()).unsqueeze(1)
        self.register_buffer("conv_kernels", kernels, persistent=False)  # [4, 1, 3, 3]
        self.mlp = nn.Sequential(
            nn.Linear(4 * num_channels, hidden_neurons),
            nn.ReLU(),
            nn.Linear(hidden_neurons, num_channels),
        )

    def _layers(self) -> Layers:
        check_call("mlp", self.mlp, nn.Sequential)
        if len(self.mlp) != 3:
            raise ValueError(f"mlp has {len(self.mlp)} layers; it must be Linear, an activation, Linear")
        first, middle, last = self.mlp
        return Layers(
            (), (linear("mlp.0", first),), (), update=linear("mlp.2", last), activation=activation("mlp.1", middle)
        )

    def _channels(self) -> Channels:
        colours = slice(0, min(3, self.num_channels))
        return Channels(colours, slice(colours.stop, self.num_channels), colours)

    def _tensors(self, rule: Rule) -> dict[str, Tensor]:
        """Columns put in a Rule's order, identity first and filter by filter."""
        first, _, last = self.mlp
        hidden, update = matrix(first), matrix(last)
        grouped = hidden.unflatten(1, (self.num_channels, 4))  # [H, C, filter]
        identity_first = torch.cat((grouped[..., 3:], grouped[..., :3]), -1)
        found = {
            "perceive.weight": self.conv_kernels[:3].expand(-1, self.num_channels, -1, -1),
            "hidden.weight": identity_first.transpose(1, 2).flatten(1),
            "hidden.bias": bias(first, hidden),
            "update.weight": update,
        }
        if rule.update_bias:
            found["update.bias"] = bias(last, update)
        return found

    def forward(self, initial_state: Tensor, steps: int, **options: Any) -> Tensor | tuple[Tensor, Tensor]:
        """Run `steps` steps.

        Args:
            initial_state: [B, num_channels, H, W].
            steps: NCA steps.
            **options: of `ncafast.rollout`: seed, fire_mask [steps, B or 1, 1, H, W], states, memory, ...

        Returns:
            The state [B, num_channels, H, W]; with states= (state, kept states [n, B, num_channels, H, W]).

        Raises:
            ValueError: a wrong shape, a fire rate outside 0 to 1, or what `rollout` refuses.
        """
        rule = self.rule
        state, kept = self._run(initial_state, rule, self._tensors(rule), steps, **options)
        return state if kept is None else (state, kept)
