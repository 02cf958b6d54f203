"""Heads that classify: the state's channels pooled over all cells, then one hidden layer.

A head is a module that follows an automaton: `torch.nn.Sequential(nca, head)`, or `Classifier(nca, head)`, whose call
takes steps, seed and the other options of a rollout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ncafast import check
from ncafast.levels import LevelsOutput
from ncafast.models.base import Rebuildable
from ncafast.nca import NCA
from ncafast.predicting import Predicting
from ncafast.prediction import Channels
from ncafast.rule import Rule
from ncafast.values import whole, widths


class Head(Rebuildable):
    """What heads share: which channels they read, and the layers after pooling.

    Args:
        channels: of the state.
        classes: K, of the logits.
        hidden: width of the hidden layer; 0 leaves it out.
        first: channels before this one are not read, such as those of the image.
    """

    def __init__(self, channels: int, classes: int, hidden: int = 32, *, first: int = 0) -> None:
        super().__init__()
        self.channels, self.classes = whole("channels", channels, 1), whole("classes", classes, 1)
        self.hidden, self.first = whole("hidden", hidden, 0), whole("first", first, 0, self.channels - 1)
        self.classifier = self._classifier(self.channels - self.first)

    def forward(self, state: Tensor) -> Tensor:
        """State [B, C, *S] -> logits [B, K]."""
        check.check_floating("state", state)
        if state.dim() < 3 or state.shape[1] != self.channels:
            raise ValueError(
                f"state of shape {list(state.shape)} is not allowed: this head reads [B, {self.channels}, *S]"
            )
        check.check_layer("classifier.0.weight", self.classifier[0].weight, state)  # type: ignore[arg-type]
        logits: Tensor = self.classifier(self.pool(state[:, self.first :]))
        return logits

    def pool(self, state: Tensor) -> Tensor:
        """Channels read [B, R, *S] -> [B, features]."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The arguments."""
        return f"channels={self.channels}, classes={self.classes}, hidden={self.hidden}, first={self.first}"

    def _classifier(self, features: int) -> nn.Sequential:
        if not self.hidden:
            return nn.Sequential(nn.Linear(features, self.classes))
        return nn.Sequential(nn.Linear(features, self.hidden), nn.ReLU(), nn.Linear(self.hidden, self.classes))


class AveragePoolHead(Head):
    """The mean over cells; with `size`, over each part of a grid that is cut into so many parts along each axis.

    Args:
        channels: of the state.
        classes: K, of the logits.
        hidden: width of the hidden layer; 0 leaves it out.
        first: channels before this one are not read.
        size: parts along each spatial axis; an int means the same for `ndim` axes.
        ndim: spatial axes, 1 to 3; read with `size` above 1 only.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        hidden: int = 32,
        *,
        first: int = 0,
        size: int | Sequence[int] = 1,
        ndim: int = 2,
    ) -> None:
        sizes = widths("size", size)
        self.ndim = whole("ndim", ndim, 1, 3) if len(sizes) == 1 else len(sizes)
        self.size = sizes * self.ndim if len(sizes) == 1 else sizes
        super().__init__(channels, classes, hidden, first=first)

    def pool(self, state: Tensor) -> Tensor:
        """The means, [B, parts * R], the parts of a channel one after another."""
        if max(self.size) == 1:
            return state.flatten(2).mean(2)
        if state.dim() != 2 + self.ndim:
            raise ValueError(f"state has {state.dim() - 2} spatial axes, size={self.size} is for {self.ndim}")
        return _POOLS[self.ndim](state, self.size).flatten(1)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{super().extra_repr()}, size={self.size}"

    def _classifier(self, features: int) -> nn.Sequential:
        return super()._classifier(features * math.prod(self.size))


class MaxPoolHead(Head):
    """The largest number of each channel, as in max-pooling automata (Deutges et al. 2024)."""

    def pool(self, state: Tensor) -> Tensor:
        """The largest numbers, [B, R]."""
        return state.flatten(2).amax(2)


class AttentionPoolHead(Head):
    """A mean over cells whose weights are learned: softmax over all cells of a linear layer's outputs.

    Attention-based pooling of Ilse et al., "Attention-based Deep Multiple Instance Learning" (2018). At first every
    cell weighs the same.

    Args:
        channels: of the state.
        classes: K, of the logits.
        hidden: width of the hidden layer; 0 leaves it out.
        first: channels before this one are not read.
        width: of the layer that the weights come from.
    """

    def __init__(self, channels: int, classes: int, hidden: int = 32, *, first: int = 0, width: int = 32) -> None:
        super().__init__(channels, classes, hidden, first=first)
        self.width = whole("width", width, 1)
        self.attention = nn.Sequential(
            nn.Linear(self.channels - self.first, self.width), nn.Tanh(), nn.Linear(self.width, 1, bias=False)
        )
        nn.init.zeros_(self.attention[2].weight)  # type: ignore[arg-type]

    def weights(self, state: Tensor) -> Tensor:
        """State [B, C, *S] -> how much each cell weighs, [B, 1, *S], a sum of 1 per sample."""
        return self._weights(state[:, self.first :]).view(state.shape[0], 1, *state.shape[2:])

    def pool(self, state: Tensor) -> Tensor:
        """The weighted means, [B, R]."""
        return (self._weights(state) * state.flatten(2)).sum(2)

    def _weights(self, state: Tensor) -> Tensor:
        cells = state.flatten(2).transpose(1, 2)  # [B, N, R]
        return self.attention(cells).softmax(1).transpose(1, 2)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{super().extra_repr()}, width={self.width}"


class Classifier(Predicting):
    """An automaton and the head that reads its last state.

    Args:
        nca: an `NCA`, or another module whose call returns a state [B, C, *S].
        head: reads that state.
    """

    def __init__(self, nca: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.nca, self.head = nca, head

    @property
    def rule(self) -> Rule:
        """The automaton's."""
        return self.nca.rule  # type: ignore[return-value]

    def config(self) -> dict[str, Any]:
        """What `from_config` needs to build this module again, as plain data.

        Raises:
            TypeError: the automaton is no `NCA`, or the head none of this file.
        """
        if type(self.nca) is not NCA or type(self.head) not in _HEADS.values():
            kinds = f"a {type(self.nca).__name__} and a {type(self.head).__name__}"
            raise TypeError(
                f"a Classifier of {kinds} cannot be saved: it must be of an NCA and a head of ncafast.heads"
            )
        assert isinstance(self.head, Head)
        return {"nca": self.nca.config(), "head": {"kind": type(self.head).__name__, **self.head.config()}}

    @classmethod
    def from_config(cls, nca: dict[str, Any], head: dict[str, Any]) -> Classifier:
        """The module that `config` describes."""
        arguments = dict(head)
        return cls(NCA.from_config(**nca), _HEADS[arguments.pop("kind")](**arguments))

    def forward(self, x: Tensor, steps: int | None = None, **options: Any) -> Any:
        """Logits [B, K] after `steps` steps from x; with states= (logits, states), as the automaton returns them."""
        done = self.nca(x, steps, **options)
        if isinstance(done, tuple):
            return self.head(done[0]), *done[1:]
        return self.head(done)

    def _levels_output(self, image: Tensor, steps: Any, **options: Any) -> LevelsOutput:
        return self._model()._levels_output(image, steps, **options)

    def _channels(self) -> Channels:
        return self._model()._channels()

    def _head(self, state: Tensor) -> Tensor:
        logits: Tensor = self.head(state)
        return logits

    def _model(self) -> Predicting:
        """The automaton, or a TypeError for what is none of ncafast."""
        if not isinstance(self.nca, Predicting):
            raise TypeError(f"a Classifier of a {type(self.nca).__name__} cannot predict: its nca must be of ncafast")
        return self.nca


_HEADS: dict[str, type[Head]] = {kind.__name__: kind for kind in (AveragePoolHead, MaxPoolHead, AttentionPoolHead)}
_POOLS: dict[int, Callable[..., Tensor]] = {
    1: nn.functional.adaptive_avg_pool1d,
    2: nn.functional.adaptive_avg_pool2d,
    3: nn.functional.adaptive_avg_pool3d,
}
