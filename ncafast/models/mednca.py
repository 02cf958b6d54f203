"""MedNCA: two-scale segmentation, a coarse NCA on the downsampled image and a fine one on the full image.

The cascade of the segmentation notebook of MECLabTUDA/NCA-tutorial, after Kalkhof et al., "Med-NCA: Robust and
Lightweight Segmentation with Neural Cellular Automata" (IPMI 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ncafast import check
from ncafast.keywords import options_of, refuse_unknown
from ncafast.layers import check_call
from ncafast.levels import LevelsOutput, check_last, run_levels
from ncafast.models.base import Rebuildable
from ncafast.models.nca2d import NCA2D
from ncafast.predicting import Predicting
from ncafast.prediction import Channels
from ncafast.rule import MAX_KERNEL, Rule
from ncafast.trace import Memory, States
from ncafast.values import odd, shown, whole


class MedNCA(Rebuildable, Predicting):
    """`model1` (coarse, k=7, 40 steps at 1/4 of the resolution) then `model2` (fine, k=3, 20 steps).

    The coarse state holds the bilinearly shrunk image, its other channels start at 0; they are enlarged bilinearly and
    go on in the fine state beside the full image. state_dict: `model1.*` and `model2.*`, each an NCA2D; the notebook
    saves the two apart, load them into `model1` and `model2`.

    This computes what `CascadeNCA([model1, model2], (scale, 1), steps, enlarge="linear")` does; it is a class of its
    own for the notebook's arguments and keys, and because it returns the logits and not the state.

    Args:
        channels: channels of both states.
        hidden: width of both hidden layers.
        kernel_sizes: filter size, coarse and fine.
        steps: NCA steps, coarse and fine.
        scale: factor between the two resolutions.
        fire_rate: probability that a cell updates, both levels. May be changed later, here or per level.
        image_channels: channels of the image; they come first in the state and never change.
        classes: channels after them that are read as logits.

    Raises:
        ValueError: image_channels + classes exceed channels, scale below 1, or what NCA2D refuses.
    """

    def __init__(
        self,
        channels: int = 16,
        hidden: int = 64,
        kernel_sizes: tuple[int, int] = (7, 3),
        steps: tuple[int, int] = (40, 20),
        scale: int = 4,
        fire_rate: float = 0.5,
        image_channels: int = 1,
        classes: int = 1,
    ) -> None:
        super().__init__()
        channels, hidden = whole("channels", channels, 2), whole("hidden", hidden, 1)
        image_channels = whole("image_channels", image_channels, 1, channels - 1)
        if not 1 <= whole("classes", classes, -(2**31)) <= channels - image_channels:
            raise ValueError(
                f"classes={classes} is not allowed: 1 to {channels - image_channels} fit beside "
                f"image_channels={image_channels} into channels={channels}"
            )
        coarse, fine = (odd("kernel_sizes", size, MAX_KERNEL) for size in _pair("kernel_sizes", kernel_sizes))
        self.channels = channels
        self.hidden = hidden
        self.kernel_sizes = coarse, fine
        self.steps = tuple(whole("steps", count, 0) for count in _pair("steps", steps))
        self.scale = whole("scale", scale, 1)
        self.image_channels = image_channels
        self.classes = classes
        self.model1 = NCA2D(channels, hidden, coarse, fire_rate, input_channels=image_channels)
        self.model2 = NCA2D(channels, hidden, fine, fire_rate, input_channels=image_channels)
        self.model1._prefix, self.model2._prefix = "model1.", "model2."

    @property
    def fire_rate(self) -> float:
        """Probability that a cell updates (of the coarse level); setting it sets both levels."""
        return self.model1.fire_rate

    @fire_rate.setter
    def fire_rate(self, rate: float) -> None:
        self.model1.fire_rate = self.model2.fire_rate = rate

    @property
    def rules(self) -> tuple[Rule, Rule]:
        """The steps of the coarse and the fine level."""
        return self.model1.rule, self.model2.rule

    @property
    def _levels(self) -> list[NCA2D]:
        check_call("model1", self.model1, NCA2D)
        check_call("model2", self.model2, NCA2D)
        return [self.model1, self.model2]

    def params(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The rollouts' tensors of the coarse and the fine level."""
        return self.model1.params(), self.model2.params()

    def forward(
        self,
        image: Tensor,
        *,
        steps: Sequence[int] | None = None,
        seed: int | Tensor | None = None,
        fire_masks: tuple[Tensor, Tensor] | None = None,
        states: States = None,
        last_steps: int = 0,
        memory: Memory = "states",
        first_step: int = 0,
        **options: Any,
    ) -> Any:
        """Segment images.

        Args:
            image: [B, image_channels, H, W], H and W at least `scale`; any size, divisible by `scale` or not.
            steps: of the coarse and the fine level; None takes the constructor's.
            seed: of the fire masks; both levels draw from it, the fine one at the steps after the coarse one's.
            fire_masks: (coarse, fine) masks [steps, B or 1, 1, *size of the level] instead of drawn ones.
            states: "all" or k: also return every (k-th) state.
            last_steps: also return the logits after each of the last so many steps of the fine level.
            memory: as in `ncafast.rollout`.
            first_step: absolute index of the coarse level's first step; the fine level starts steps[0] later.
            **options: of `ncafast.rollout`: first_sample, backend.

        Returns:
            Logits [B, classes, H, W]; with states= (logits, [coarse states, fine states]), each [n, B, channels, h, w];
            with last_steps= (logits, [last_steps, B, classes, H, W]).

        Raises:
            ValueError: a wrong shape, or what `rollout` refuses.
        """
        if "fire_mask" in options:
            raise TypeError("MedNCA takes fire_masks=(coarse, fine), one for each level, not fire_mask=")
        refuse_unknown("MedNCA", options, _OPTIONS)
        options |= {"fire_masks": fire_masks, "states": states, "last_steps": last_steps, "memory": memory}
        ran = self._levels_output(image, steps, seed=seed, first_step=first_step, **options)
        logits = ran.state[:, self._channels().output]
        if last_steps:
            return logits, ran.last
        return logits if states is None else (logits, ran.kept)

    def _levels_output(
        self,
        image: Tensor,
        steps: Sequence[int] | None,
        *,
        first_step: int = 0,
        fire_masks: tuple[Tensor, Tensor] | None = None,
        states: States = None,
        last_steps: int = 0,
        **options: Any,
    ) -> LevelsOutput:
        self._check(image)
        counts = self.steps if steps is None else tuple(whole("steps", count, 0) for count in _pair("steps", steps))
        check_last(last_steps, counts[1], states)
        options |= {"states": states, "last_steps": last_steps, "read": self._channels().output}
        return run_levels(
            self._levels,
            counts,
            lambda number, before: self._enter(image, before),
            first_step=check.check_count("first_step", first_step),
            fire_masks=None if fire_masks is None else _pair("fire_masks", fire_masks),
            **options,
        )

    def _channels(self) -> Channels:
        first, end = self.image_channels, self.image_channels + self.classes
        return Channels(slice(0, first), slice(end, self.channels), slice(first, end))

    def _enter(self, image: Tensor, before: Tensor | None) -> Tensor:
        """The first state of the coarse level, or of the fine one, which goes on from the coarse one's last state."""
        if before is not None:
            hidden = F.interpolate(before[:, self.image_channels :], size=image.shape[2:], mode="bilinear")
            return torch.cat((image, hidden), 1)
        small = [size // self.scale for size in image.shape[2:]]
        shrunk = F.interpolate(image, size=small, mode="bilinear")
        hidden = shrunk.new_zeros(image.shape[0], self.channels - self.image_channels, *small)
        return torch.cat((shrunk, hidden), 1)

    def _check(self, image: Tensor) -> None:
        check.check_floating("image", image)
        if image.dim() != 4 or image.shape[1] != self.image_channels:
            raise ValueError(
                f"image must be [B, image_channels={self.image_channels}, H, W], got shape {list(image.shape)}"
            )
        if min(image.shape[2:]) < self.scale:
            raise ValueError(
                f"image of {image.shape[2]} x {image.shape[3]} cells is too small: "
                f"each side must be at least scale={self.scale}"
            )


_OPTIONS = (*options_of(MedNCA.forward, 2), "first_sample", "backend")


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    """What is given for the two levels."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} must be a pair (coarse, fine), got {type(value).__name__}")
    if len(value) != 2:
        raise ValueError(f"{name} must be a pair (coarse, fine), got {len(value)} values: {shown(value)}")
    return value[0], value[1]
