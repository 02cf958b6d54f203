"""What the automata of the M3D-NCA family share: states [B, *S, C] whose first channels are an image and stay.

Their step is filters side by side, `fc0`, a norm `bn` in some of them, ReLU and `fc1`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ncafast.layers import Layers, bias, conv, filters, linear, matrix, norm, norm_tensors
from ncafast.layers.settings import Conv, Dense
from ncafast.models.base import RuleModule, channels_first
from ncafast.rule import Rule
from ncafast.values import whole


class ImageNCA(RuleModule):
    """A subclass makes the rule and the layers, and says with the attributes below what differs.

    Args:
        channel_n: channels of the state.
        hidden_size: width of the hidden layer.
        input_channels: channels of the image.
    """

    channels_last = True

    _filter_layers: tuple[str, ...] = ()  # none where the filters are fixed
    _filter_axes: tuple[int, ...] | None = None  # which of their axes goes along each axis of the grid, if turned
    _normed = True
    _image_rows = True  # whether fc1 has rows for the image's channels too, which take no part

    def __init__(self, channel_n: int, hidden_size: int, input_channels: int) -> None:
        super().__init__()
        self.channel_n = whole("channel_n", channel_n, 1)
        self.hidden_size = whole("hidden_size", hidden_size, 1)
        self.input_channels = whole("input_channels", input_channels, 0, self.channel_n - 1)

    def _layers(self) -> Layers:
        ndim = self._rule.ndim
        return Layers(
            filters=tuple(conv(name, getattr(self, name), ndim) for name in self._filter_layers),
            hidden=(self._pointwise("fc0"),),
            norms=tuple(norm("bn", layer, ndim) for layer in self._norms()),
            update=self._pointwise("fc1"),
            axes=self._filter_axes,
        )

    def _pointwise(self, name: str) -> Conv | Dense:
        layer = getattr(self, name)
        return linear(name, layer) if self._linear_layers else conv(name, layer, self._rule.ndim)

    def _norms(self) -> tuple[nn.Module, ...]:
        return (self.bn,) if self._normed else ()  # type: ignore[return-value]

    def _perception(self, rule: Rule) -> dict[str, Tensor]:
        """perceive.* in the order of the grid's axes."""
        found = filters(rule, **{name: getattr(self, name) for name in self._filter_layers})
        if self._filter_axes is not None:
            found["perceive.weight"] = found["perceive.weight"].permute(0, 1, *(2 + axis for axis in self._filter_axes))
        return found

    def _tensors(self, rule: Rule) -> dict[str, Tensor]:
        """Rows of fc1 that would change the image take no part, so their gradient is 0."""
        hidden, update = matrix(self.fc0), matrix(self.fc1)  # type: ignore[arg-type]
        found = self._perception(rule)
        found |= {"hidden.weight": hidden, "hidden.bias": bias(self.fc0, hidden)}  # type: ignore[arg-type]
        for layer in self._norms():
            found |= norm_tensors(rule, layer)
        first = self.input_channels if self._image_rows else 0
        found["update.weight"] = update[first:]
        if rule.update_bias:
            found["update.bias"] = bias(self.fc1, update)[first:]  # type: ignore[arg-type]
        return found

    def _advance(self, x: Tensor, rule: Rule, steps: int, options: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """The last state [B, *S, channel_n], and the kept states [n, B, *S, channel_n] or None."""
        state = channels_first(x, self.channel_n, rule.ndim, type(self).__name__)
        state, kept = self._run(state, rule, self._tensors(rule), steps, **options)
        return state.movedim(1, -1).contiguous(), None if kept is None else kept.movedim(2, -1)


def start(fc0: nn.Module, fc1: nn.Module, init_method: str) -> None:
    """The last layer at 0; or, for init_method "xavier", both layers uniform.

    Raises:
        ValueError: another init_method.
    """
    if init_method not in ("standard", "xavier"):
        raise ValueError(f"init_method={init_method!r} is not allowed: it must be standard or xavier")
    nn.init.zeros_(fc1.weight)  # type: ignore[arg-type]
    if init_method == "xavier":
        nn.init.xavier_uniform_(fc0.weight)  # type: ignore[arg-type]
        nn.init.xavier_uniform_(fc1.weight)  # type: ignore[arg-type]
