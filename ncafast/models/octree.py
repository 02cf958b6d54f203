"""OctreeNCA: segmentation by a pyramid of automata, each on a finer grid than the one before.

The cascade of MECLabTUDA/OctreeNCA, after Lemke et al., "OctreeNCA: Single-Pass 184 MP Segmentation on Consumer
Hardware" (BMVC 2025).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncafast import check
from ncafast.keywords import options_of, refuse_unknown
from ncafast.layers import check_call
from ncafast.levels import LevelsOutput, run_levels
from ncafast.models.base import Rebuildable
from ncafast.models.cascade import Box, enlarge
from ncafast.models.octreefast import BasicNCA2DFast, BasicNCA3DFast
from ncafast.predicting import Predicting
from ncafast.prediction import Channels
from ncafast.rule import Rule
from ncafast.trace import Memory, States
from ncafast.values import whole

_LEVELS = {2: BasicNCA2DFast, 3: BasicNCA3DFast}
# Constructor's arguments by the names that they have in the original's configuration.
_CONFIG = {
    "res_and_steps": "model.octree.res_and_steps",
    "channel_n": "model.channel_n",
    "fire_rate": "model.fire_rate",
    "hidden_size": "model.hidden_size",
    "input_channels": "model.input_channels",
    "output_channels": "model.output_channels",
    "kernel_size": "model.kernel_size",
    "separate_models": "model.octree.separate_models",
    "normalization": "model.normalization",
}


class OctreeNCA(Rebuildable, Predicting):
    """One automaton per level, or one for all, from the coarsest grid to the finest.

    Images are shrunk to each level's grid by nearest neighbour, hidden states are enlarged cell by cell. Every level
    runs on its whole grid, in training too: the original's random patches are not drawn. Gradients reach the image,
    which they do not in the original.

    Layout: images [B, input_channels, H, W] in 2-D, volumes [B, X, Y, Z, input_channels] in 3-D, as in the original.

    state_dict: `backbone_ncas.0.*` (finest) to `backbone_ncas.<levels - 1>.*` (coarsest), or `backbone_nca.*`, each a
    BasicNCA2DFast or BasicNCA3DFast.

    Args:
        res_and_steps: (grid, steps) of each level, finest first; the grid has 2 or 3 sides. A level's grid divides that
            of the level before. Images of other sizes than the finest are shrunk by the same factors.
        channel_n: channels of every state.
        fire_rate: probability that a cell updates. May be changed later, here or per level.
        hidden_size: width of the hidden layers.
        input_channels: channels of the image; they come first in the state and never change.
        output_channels: channels after them that are read as logits.
        kernel_size: filter size; with separate_models also one per level, finest first.
        separate_models: one automaton per level, or one for all.
        normalization: as in BasicNCA2DFast.
        device: where the parameters go; default the CPU.

    Raises:
        ValueError: a level whose grid does not divide that of the level before, or what BasicNCA2DFast refuses.
    """

    channels_last = True

    def __init__(
        self,
        res_and_steps: Sequence[tuple[Sequence[int], int]],
        channel_n: int = 16,
        fire_rate: float = 0.5,
        hidden_size: int = 64,
        input_channels: int = 1,
        output_channels: int = 1,
        kernel_size: int | Sequence[int] = 3,
        separate_models: bool = True,
        normalization: str = "batch",
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.device = check.check_device(device)
        self.res_and_steps = tuple((_grid(res), whole("steps", steps, 0)) for res, steps in res_and_steps)
        self._factors = _factors([res for res, _ in self.res_and_steps])
        self.channel_n = channel_n = whole("channel_n", channel_n, 2)
        self.input_channels = input_channels = whole("input_channels", input_channels, 1, channel_n - 1)
        self.output_channels = whole("output_channels", output_channels, 1, channel_n - input_channels)
        self.hidden_size, self.normalization, self.separate_models = hidden_size, normalization, separate_models
        count = len(self.res_and_steps) if separate_models else 1
        sizes = [kernel_size] * count if isinstance(kernel_size, int) else list(kernel_size)
        if len(sizes) != count:
            raise ValueError(f"kernel_size has {len(sizes)} values, but there are {count} automata; give one for each")
        self.kernel_size = kernel_size if isinstance(kernel_size, int) else tuple(sizes)
        kind = _LEVELS[len(self.res_and_steps[0][0])]
        options: dict[str, Any] = {"normalization": normalization, "device": device}
        levels = [
            kind(channel_n, fire_rate, hidden_size=hidden_size, input_channels=input_channels, kernel_size=k, **options)
            for k in sizes
        ]
        if separate_models:
            self.backbone_ncas = nn.ModuleList(levels)
        else:
            self.backbone_nca = levels[0]
        for name, level in self._named():
            level._prefix = f"{name}."

    @classmethod
    def from_experiment(cls, config: Mapping[str, Any]) -> OctreeNCA:
        """The cascade of one of the original's configurations ("model.channel_n" and so on)."""
        return cls(**{name: config[key] for name, key in _CONFIG.items() if key in config})

    @property
    def fire_rate(self) -> float:
        """Probability that a cell updates (of the finest level); setting it sets all levels."""
        return self._named()[0][1].fire_rate

    @fire_rate.setter
    def fire_rate(self, rate: float) -> None:
        for _, level in self._named():
            level.fire_rate = rate

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The steps of all levels, finest first."""
        return tuple(level.rule for _, level in self._named())

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        batch_duplication: int = 1,
        *,
        seed: int | Tensor | None = None,
        fire_masks: Sequence[Tensor] | None = None,
        states: States = None,
        memory: Memory = "states",
        first_step: int = 0,
        **options: Any,
    ) -> dict[str, Any]:
        """Segment images.

        Args:
            x: [B, input_channels, H, W] or [B, X, Y, Z, input_channels].
            y: targets in the layout of x; they come back beside the logits, as in the original's training.
            batch_duplication: in training mode, repeat the batch so often; each copy draws its own masks.
            seed: of the fire masks; each level draws from it, at the steps after the level before.
            fire_masks: one mask [steps, B or 1, 1, *grid of the level] per level, finest first, instead of drawn ones.
            states: "all" or k: also return every (k-th) state.
            memory: as in `ncafast.rollout`.
            first_step: absolute index of the coarsest level's first step.
            **options: of `ncafast.rollout`: first_sample, backend.

        Returns:
            "logits" [B, *S, output_channels] and "hidden_channels" [B, *S, the others] of the finest level; with y
            "target" [B, *S, any]; with states= "states", per level, finest first, [n, B, *S, channel_n].

        Raises:
            ValueError: a wrong shape, or what `rollout` refuses.
        """
        refuse_unknown("OctreeNCA", options, _OPTIONS)
        copies = batch_duplication if self.training else 1
        image = torch.cat([self._image(x)] * copies)
        options |= {"seed": seed, "fire_masks": fire_masks, "states": states, "memory": memory}
        ran = self._levels_output(image, None, first_step=first_step, **options)
        last, end = ran.state.movedim(1, -1), self.input_channels + self.output_channels
        found: dict[str, Any] = {"logits": last[..., self.input_channels : end], "hidden_channels": last[..., end:]}
        if y is not None:
            found["target"] = torch.cat([y if image.dim() == 5 else y.movedim(1, -1)] * copies)
        return found if states is None else found | {"states": [kept.movedim(2, -1) for kept in reversed(ran.kept)]}

    def _levels_output(
        self,
        image: Tensor,  # [B, input_channels, *S]
        steps: Sequence[int] | None,  # from the coarsest level on
        *,
        first_step: int = 0,
        fire_masks: Sequence[Tensor] | None = None,
        **options: Any,
    ) -> LevelsOutput:
        ndim, finest = len(self.res_and_steps[0][0]), len(self.res_and_steps) - 1
        if image.dim() != ndim + 2 or image.shape[1] != self.input_channels:
            axes = "H, W" if ndim == 2 else "X, Y, Z"
            raise ValueError(f"image must be [B, {self.input_channels}, {axes}], got shape {list(image.shape)}")
        own = [count for _, count in reversed(self.res_and_steps)]
        for name, what, given in (("fire_masks", "masks", fire_masks), ("steps", "numbers", steps)):
            if given is not None and len(given) != len(own):
                raise ValueError(f"{name} has {len(given)} {what}, but there are {len(own)} levels; give one for each")
        sizes = self._sizes(tuple(image.shape[2:]))
        return run_levels(  # from the coarsest on, which comes last here
            [self._level(number) for number in reversed(range(len(sizes)))],
            own if steps is None else [whole("steps", count, 0) for count in steps],
            lambda number, before: self._enter(finest - number, image, before, sizes[finest - number]),
            first_step=check.check_count("first_step", first_step),
            fire_masks=None if fire_masks is None else list(reversed(fire_masks)),
            **options,
        )

    def _channels(self) -> Channels:
        first, end = self.input_channels, self.input_channels + self.output_channels
        return Channels(slice(0, first), slice(end, self.channel_n), slice(first, end))

    def _enter(self, number: int, image: Tensor, before: Tensor | None, size: Box) -> Tensor:
        """The first state of a level: the image on its grid, and the hidden channels of the level before."""
        shrunk = F.interpolate(image, size=size)
        if before is None:
            hidden = shrunk.new_zeros(shrunk.shape[0], self.channel_n - self.input_channels, *size)
        else:
            hidden = enlarge(before[:, self.input_channels :], self._factors[number], size)
        return torch.cat((shrunk, hidden), 1)

    def _named(self) -> list[tuple[str, BasicNCA2DFast]]:
        if not self.separate_models:
            return [("backbone_nca", self.backbone_nca)]
        return [(f"backbone_ncas.{n}", level) for n, level in enumerate(self.backbone_ncas)]  # type: ignore[misc]

    def _level(self, number: int) -> BasicNCA2DFast:
        name, level = self._named()[number if self.separate_models else 0]
        check_call(name, level, *_LEVELS.values())
        return level

    def _image(self, x: Tensor) -> Tensor:
        """[B, input_channels, *S]."""
        check.check_floating("x", x)
        ndim = len(self.res_and_steps[0][0])
        axes, channels = ("H, W", 1) if ndim == 2 else ("X, Y, Z", -1)
        if x.dim() != ndim + 2 or x.shape[channels] != self.input_channels:
            width = f"input_channels={self.input_channels}"
            layout = f"[B, {width}, {axes}]" if ndim == 2 else f"[B, {axes}, {width}]"
            raise ValueError(f"OctreeNCA takes x as {layout}, got shape {list(x.shape)}")
        return x.movedim(channels, 1)

    def _sizes(self, size: Box) -> list[Box]:
        """Every level's grid, finest first."""
        sizes = [size]
        for factors in self._factors:
            sizes.append(tuple(-(-side // factor) for side, factor in zip(sizes[-1], factors, strict=True)))
        return sizes


_OPTIONS = (*options_of(OctreeNCA.forward, 2), "first_sample", "backend")


def _grid(res: Sequence[int]) -> Box:
    sides = tuple(whole("res_and_steps", side, 1) for side in res)
    if len(sides) not in _LEVELS:
        raise ValueError(f"res_and_steps has a grid of {len(sides)} sides; it must be 2 or 3")
    return sides


def _factors(grids: Sequence[Box]) -> list[Box]:
    """How many cells of each level one of the level after it covers, along each axis."""
    if not grids:
        raise ValueError("res_and_steps is empty; give (grid, steps) for at least one level")
    for fine, coarse in zip(grids, grids[1:], strict=False):
        if len(fine) != len(coarse) or any(a % b for a, b in zip(fine, coarse, strict=True)):
            raise ValueError(f"res_and_steps goes from {fine} to {coarse}: each side must divide the one before")
    return [tuple(a // b for a, b in zip(*pair, strict=True)) for pair in zip(grids, grids[1:], strict=False)]
