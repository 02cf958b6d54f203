"""SelfClassifyingNCA: cells that agree on which digit they are part of.

The system of the self-classifying MNIST example of CAX (maxencefaldor/cax, JAX; Faldor and Cully, "CAX: Cellular
Automata Accelerated in JAX", 2024), after Randazzo et al., "Self-classifying MNIST Digits" (Distill 2020).
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from ncafast import check
from ncafast.layers import CONV, Layers, bias, check_call, conv, filters, matrix
from ncafast.models.base import Rate, RuleModule, channels_first
from ncafast.prediction import Channels
from ncafast.rule import Alive, Rule, layer_name
from ncafast.values import number, whole, widths


class SelfClassifyingNCA(RuleModule):
    """Full 3x3 convolution with ReLU, MLP, cell dropout, alive mask on the last channel, which holds the image.

    Layout: state [..., *S, channel_size] float with any leading axes; the image in the last channel, the logits of the
    example's ten digits in the first ten.

    In training a cell is dropped with probability `cell_dropout_rate` and the others' update is divided by the rate
    kept; in evaluation every cell updates, unscaled. The update changes the image channel too, which decides who is
    alive afterwards; then the image is put back.

    state_dict: flax paths in PyTorch's spelling, kernel -> weight with axes (out, in, k, k): `perceive.conv.*`
    [perception_size, channel_size, 3, ...], `update.layers.<n>.*` with 1x1 kernels. Weights start as flax starts
    them: truncated normal of variance 1 / fan_in, biases 0, the last kernel 0.

    Args:
        channel_size: channels of the state.
        perception_size: outputs of the convolution.
        hidden_layer_sizes: widths of the hidden layers, at least one.
        cell_dropout_rate: probability that a cell does NOT update in training. The attribute may be changed later.
        ndim: spatial axes, 1 to 3.
        step_size: factor of the update.
        alive_threshold: of the alive mask.
    """

    channels_last = True

    cell_dropout_rate = Rate(above=True)

    def __init__(
        self,
        channel_size: int = 20,
        perception_size: int = 80,
        hidden_layer_sizes: tuple[int, ...] = (80,),
        cell_dropout_rate: float = 0.5,
        *,
        ndim: int = 2,
        step_size: float = 1.0,
        alive_threshold: float = 0.1,
    ) -> None:
        super().__init__()
        self.channel_size = channel_size = whole("channel_size", channel_size, 1)
        self.perception_size = perception_size = whole("perception_size", perception_size, 1)
        self.hidden_layer_sizes = hidden_layer_sizes = widths("hidden_layer_sizes", hidden_layer_sizes)
        self.ndim = ndim = whole("ndim", ndim, 1, 3)
        self.step_size = step_size = number("step_size", step_size)
        self.alive_threshold = alive_threshold = number("alive_threshold", alive_threshold)
        image = channel_size - 1
        self._rule = Rule(
            channels=channel_size,
            ndim=ndim,
            perception="dense",
            identity=False,
            dense_channels=perception_size,
            dense_activation="relu",
            filter_bias=True,
            hidden=hidden_layer_sizes,
            update_bias=True,
            fire_rescale=True,
            fire_in_eval=False,
            step_size=step_size,
            restore=(image, channel_size),
            alive=Alive(channel=image, threshold=alive_threshold),
        )
        self.cell_dropout_rate = cell_dropout_rate
        self._eval_rule = self._rule.for_eval()
        self.perceive = _Perceive(ndim, channel_size, perception_size)
        sizes = (perception_size, *hidden_layer_sizes, channel_size)
        self.update = _Update(ndim, sizes)

    def _layers(self) -> Layers:
        check_call("perceive", self.perceive, _Perceive)
        check_call("update", self.update, _Update)
        ndim, (*hidden, last) = self.ndim, self.update.layers
        return Layers(
            filters=(conv("perceive.conv", self.perceive.conv, ndim),),
            hidden=tuple(conv(f"update.layers.{n}", layer, ndim) for n, layer in enumerate(hidden)),
            norms=(),
            update=conv(f"update.layers.{len(hidden)}", last, ndim),
        )

    def _channels(self) -> Channels:
        image = self.channel_size - 1
        logits = min(10, image)
        return Channels(slice(image, image + 1), slice(logits, image), slice(0, logits))

    def _tensors(self, rule: Rule) -> dict[str, Tensor]:
        *hidden, last = self.update.layers
        found = filters(rule, **{"perceive.conv": self.perceive.conv})
        for n, layer in enumerate(hidden):
            name, weight = layer_name("hidden", n), matrix(layer)
            found |= {f"{name}.weight": weight, f"{name}.bias": bias(layer, weight)}
        found["update.weight"] = matrix(last)
        if rule.update_bias:
            found["update.bias"] = bias(last, found["update.weight"])
        return found

    def forward(self, state: Tensor, num_steps: int = 1, **options: Any) -> Tensor | tuple[Tensor, Tensor]:
        """Run `num_steps` steps.

        Args:
            state: [..., *S, channel_size]. Each of the leading axes is a batch axis with masks of its own.
            num_steps: NCA steps.
            **options: of `ncafast.rollout`: seed, fire_mask [num_steps, B or 1, 1, *S] with B the product of the
                leading axes, states, memory, ...

        Returns:
            The state, shaped as given; with states= (state, kept states [n, ..., *S, channel_size]).

        Raises:
            ValueError: a wrong shape, a dropout rate outside 0 to 1 (or 1 itself), or what `rollout` refuses.
        """
        check.check_floating("state", state)
        ndim = self._rule.ndim
        lead, cells = state.shape[: -ndim - 1], state.shape[-ndim - 1 :]
        x = channels_first(state.reshape(math.prod(lead), *cells), self.channel_size, ndim, "SelfClassifyingNCA")
        base = self._rule if self.training else self._eval_rule
        rule = self._derived(base, base.fire_rate)
        x, kept = self._run(x, rule, self._tensors(rule), num_steps, **options)
        last = x.movedim(1, -1).contiguous().view(state.shape)
        return last if kept is None else (last, kept.movedim(2, -1).reshape(-1, *state.shape))


class _Perceive(nn.Module):
    def __init__(self, ndim: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv = CONV[ndim](channels, outputs, kernel_size=3, padding=1)
        _lecun_normal_(self.conv)


class _Update(nn.Module):
    def __init__(self, ndim: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        pairs = zip(sizes[:-1], sizes[1:], strict=True)
        self.layers = nn.ModuleList(CONV[ndim](n, m, kernel_size=1) for n, m in pairs)
        for layer in self.layers[:-1]:
            _lecun_normal_(layer)
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)


def _lecun_normal_(layer: nn.Module) -> None:
    """Weights from a normal distribution cut at two deviations, of variance 1 / fan_in after the cut; biases 0."""
    weight, offset = layer.parameters()
    fan_in = weight[0].numel()
    deviation = 1.0 / (0.87962566103423978 * math.sqrt(fan_in))  # the cut shrinks a unit deviation to 0.8796
    nn.init.trunc_normal_(weight, std=deviation, a=-2.0 * deviation, b=2.0 * deviation)
    nn.init.zeros_(offset)
