"""M3DNCA: segmentation of volumes by a cascade of automata, each on a finer grid than the one before.

The class of MECLabTUDA/M3D-NCA, after Kalkhof and Mukhopadhyay, "M3D-NCA: Robust 3D Segmentation with Built-in Quality
Control" (MICCAI 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncafast import check
from ncafast.keywords import options_of, refuse_unknown
from ncafast.layers import check_call
from ncafast.levels import LevelsOutput, check_last, run_levels
from ncafast.models.base import Rebuildable
from ncafast.models.basicnca3d import BasicNCA3D
from ncafast.models.cascade import (
    Windows,
    cut,
    draw_windows,
    enlarge,
    enlarge_windows,
    level_sizes,
)
from ncafast.predicting import Predicting
from ncafast.prediction import Channels
from ncafast.rule import Rule
from ncafast.trace import Memory, States
from ncafast.values import whole

MAX_LEVELS = 10  # a coarsest cell covers at least 2**9 voxels along each axis then


class M3DNCA(Rebuildable, Predicting):
    """`levels` automata, from coarse to fine: the volume is shrunk by max-pooling, states are enlarged cell by cell.

    The coarsest level sees the whole volume; with windows= (and, as in the original, when training with targets) the
    others see one box per sample, inside the box of the level before. Inference is on the whole volume at every level.

    Layout: volumes [B, X, Y, Z, channels] float, of any size: `scale_factor` need not divide it (windows need that).
    `fire_rate` is the original's: a cell updates with probability 1 - fire_rate.

    On whole volumes this computes what `CascadeNCA(list(model), scales, steps, shrink="max")` does; it is a class of
    its own for its windows, and for the original's layout, arguments and keys.

    state_dict: `model.0.*` (coarsest) to `model.<levels - 1>.*`, each a BasicNCA3D.

    Args:
        channel_n: channels of every state.
        fire_rate: see above. May be changed later, here or per level.
        device: where the parameters go, and `self.device`; default the CPU.
        steps: NCA steps, one number for all levels or one per level.
        hidden_size: width of the hidden layers.
        input_channels: channels of the volume; they come first in the state and never change.
        output_channels: channels after them that are read as logits.
        scale_factor: factor between two levels.
        levels: number of levels, up to 10; 1 is a single automaton.
        kernel_size: filter size of the coarsest level, the others have 3; or one size per level.

    Raises:
        ValueError: input_channels + output_channels exceed channel_n, as many steps or kernel sizes as there are not
            levels, or what BasicNCA3D refuses.
    """

    channels_last = True

    def __init__(
        self,
        channel_n: int = 16,
        fire_rate: float = 0.5,
        device: torch.device | str | None = None,
        steps: int | Sequence[int] = 64,
        hidden_size: int = 128,
        input_channels: int = 1,
        output_channels: int = 1,
        scale_factor: int = 4,
        levels: int = 2,
        kernel_size: int | Sequence[int] = 7,
    ) -> None:
        super().__init__()
        self.device = check.check_device(device)
        self.channel_n = channel_n = whole("channel_n", channel_n, 2)
        self.hidden_size = hidden_size
        self.input_channels = input_channels = whole("input_channels", input_channels, 1, channel_n - 1)
        self.output_channels = output_channels = whole("output_channels", output_channels, -(2**31))
        if not 1 <= output_channels <= channel_n - input_channels:
            raise ValueError(
                f"output_channels={output_channels} is not allowed: 1 to {channel_n - input_channels} fit beside "
                f"input_channels={input_channels} into channel_n={channel_n}"
            )
        self.scale_factor = whole("scale_factor", scale_factor, 1)
        self.levels = levels = whole("levels", levels, 1, MAX_LEVELS)
        self.steps = tuple(whole("steps", count, 0) for count in _each("steps", steps, levels))
        if isinstance(kernel_size, int):
            kernel_size = (kernel_size, *[3] * (levels - 1))
        self.kernel_size = tuple(_each("kernel_size", kernel_size, levels))
        self.model = nn.ModuleList(
            BasicNCA3D(channel_n, fire_rate, device, hidden_size, input_channels, kernel_size=size)
            for size in self.kernel_size
        )
        for number, level in enumerate(self._levels):
            level._prefix = f"model.{number}."

    @property
    def fire_rate(self) -> float:
        """1 - the probability that a cell updates (of the coarsest level); setting it sets all levels."""
        return self._levels[0].fire_rate

    @fire_rate.setter
    def fire_rate(self, rate: float) -> None:
        for level in self._levels:
            level.fire_rate = rate

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The steps of all levels."""
        return tuple(level.rule for level in self._levels)

    @property
    def _levels(self) -> list[BasicNCA3D]:
        for number, level in enumerate(self.model):
            check_call(f"model.{number}", level, BasicNCA3D)
        return list(self.model)  # type: ignore[arg-type]

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        batch_duplication: int = 1,
        *,
        windows: Windows | None = None,
        steps: int | Sequence[int] | None = None,
        seed: int | Tensor | None = None,
        fire_masks: Sequence[Tensor] | None = None,
        states: States = None,
        last_steps: int = 0,
        memory: Memory = "states",
        first_step: int = 0,
        **options: Any,
    ) -> Any:
        """Segment volumes.

        Args:
            x: [B, X, Y, Z, input_channels], each side of the coarsest grid longer than its kernel_size // 2.
            y: targets [B, X, Y, Z, any], to be cut as the logits are. In training mode they make the model draw
                windows from torch's generator, as the original does: 1/scale_factor**(levels - 1) of each side.
            batch_duplication: in training mode, repeat the batch so often; each copy draws its own windows and masks.
            windows: the part that the finer levels run on, see `ncafast.models.cascade.draw_windows`.
            steps: one number for all levels or one per level; None takes the constructor's.
            seed: of the fire masks; each level draws from it, at the steps after the level before.
            fire_masks: one mask [steps, B or 1, 1, *grid or window of the level] per level instead of drawn ones.
            states: "all" or k: also return every (k-th) state.
            last_steps: also return the logits after each of the last so many steps of the finest level.
            memory: as in `ncafast.rollout`.
            first_step: absolute index of the coarsest level's first step.
            **options: of `ncafast.rollout`: first_sample, backend.

        Returns:
            Logits [B, X, Y, Z, output_channels] (of the last window, where there are windows). With y, states= or
            last_steps= a tuple: logits, then y [B, X, Y, Z, any], then a list per level of states
            [n, B, X, Y, Z, channel_n], then logits [last_steps, B, X, Y, Z, output_channels].

        Raises:
            ValueError: a wrong shape, or what `rollout` refuses.
        """
        self._check(x, y)
        if "fire_mask" in options:
            raise TypeError("M3DNCA takes fire_masks=, one for each level, not fire_mask=")
        refuse_unknown("M3DNCA", options, _OPTIONS)
        if y is not None and self.training:
            x, y = (torch.cat([tensor] * batch_duplication) for tensor in (x, y))
            windows = self._random_windows(x) if windows is None else windows
        options |= {"fire_masks": fire_masks, "states": states, "last_steps": last_steps, "memory": memory}
        where: dict[str, Any] = {"windows": windows, "seed": seed, "first_step": first_step}
        ran = self._levels_output(x.movedim(-1, 1), steps, **where, **options)
        result: list[Any] = [ran.state[:, self._channels().output].movedim(1, -1)]
        if y is not None:
            result.append(y if windows is None or self.levels == 1 else self.cut(y, windows))
        if states is not None:
            result.append([kept.movedim(2, -1) for kept in ran.kept])
        if ran.last is not None:
            result.append(ran.last.movedim(2, -1))
        return result[0] if len(result) == 1 else tuple(result)

    def _levels_output(
        self,
        image: Tensor,  # [B, input_channels, X, Y, Z]
        steps: int | Sequence[int] | None,
        *,
        first_step: int = 0,
        windows: Windows | None = None,
        fire_masks: Sequence[Tensor] | None = None,
        states: States = None,
        last_steps: int = 0,
        **options: Any,
    ) -> LevelsOutput:
        if image.dim() != 5 or image.shape[1] != self.input_channels:
            raise ValueError(f"image must be [B, {self.input_channels}, X, Y, Z], got shape {list(image.shape)}")
        asked = self.steps if steps is None else steps
        counts = tuple(whole("steps", count, 0) for count in _each("steps", asked, self.levels))
        check_last(last_steps, counts[-1], states)
        options |= {"states": states, "last_steps": last_steps, "read": self._channels().output}
        return run_levels(
            self._levels,
            counts,
            lambda number, before: self._enter(number, image, before, windows),
            first_step=check.check_count("first_step", first_step),
            fire_masks=None if fire_masks is None else _each("fire_masks", fire_masks, self.levels),
            **options,
        )

    def _channels(self) -> Channels:
        first, end = self.input_channels, self.input_channels + self.output_channels
        return Channels(slice(0, first), slice(end, self.channel_n), slice(first, end))

    def cut(self, volume: Tensor, windows: Windows) -> Tensor:
        """What the finest level's windows show of [B, X, Y, Z, any]."""
        if self.levels == 1:
            return volume
        return cut(volume.movedim(-1, 1), windows.starts[-1], windows.sizes[-1]).movedim(1, -1)

    def _enter(self, number: int, volume: Tensor, before: Tensor | None, windows: Windows | None) -> Tensor:
        """The first state of a level: the volume at its scale, and the hidden channels of the level before."""
        factor = self.scale_factor ** (self.levels - 1 - number)
        image = F.max_pool3d(volume, factor, ceil_mode=True) if factor > 1 else volume
        if before is None:
            hidden = image.new_zeros(image.shape[0], self.channel_n - self.input_channels, *image.shape[2:])
            return torch.cat((image, hidden), 1)
        hidden = before[:, self.input_channels :]
        if windows is None:
            return torch.cat((image, enlarge(hidden, self.scale_factor, tuple(image.shape[2:]))), 1)
        size, starts = windows.sizes[number - 1], windows.starts[number - 1]
        within = starts
        if number > 1:  # the state before is of a window itself
            offsets = zip(starts, windows.starts[number - 2], strict=True)
            within = tuple(tuple(s - self.scale_factor * o for s, o in zip(*pair, strict=True)) for pair in offsets)
        return torch.cat((cut(image, starts, size), enlarge_windows(hidden, self.scale_factor, within, size)), 1)

    def _random_windows(self, x: Tensor) -> Windows:
        size = tuple(x.shape[1:4])
        return draw_windows(
            size,
            scale=self.scale_factor,
            levels=self.levels,
            patch=level_sizes(size, self.scale_factor, self.levels)[0],
            real=[size] * x.shape[0],
            generators=[None] * x.shape[0],
        )

    def _check(self, x: Tensor, y: Tensor | None) -> None:
        check.check_floating("x", x)
        if x.dim() != 5 or x.shape[-1] != self.input_channels:
            raise ValueError(
                f"M3DNCA takes x as [B, X, Y, Z, input_channels={self.input_channels}], got shape {list(x.shape)}"
            )
        if y is not None and (y.dim() != 5 or y.shape[:4] != x.shape[:4]):
            raise ValueError(f"y must be [B, X, Y, Z, any] with the sizes of x, got shape {list(y.shape)}")


_OPTIONS = (*options_of(M3DNCA.forward, 2), "first_sample", "backend")


def _each(name: str, value: Any, levels: int) -> Sequence[Any]:
    """What is given for every level: one value for all, or a sequence of as many."""
    if not isinstance(value, (tuple, list)):
        return [value] * levels
    if len(value) != levels:
        raise ValueError(f"{name} has {len(value)} values, but there are levels={levels}; give one for each")
    return value
