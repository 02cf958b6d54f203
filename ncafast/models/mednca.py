"""MedNCA: two-scale segmentation, a coarse NCA on the downsampled image and a fine one on the full image.

The cascade of the segmentation notebook of MECLabTUDA/NCA-tutorial, after Kalkhof et al., "Med-NCA: Robust and
Lightweight Segmentation with Neural Cellular Automata" (IPMI 2023).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ncafast.functional import Memory, States
from ncafast.models.base import Rebuildable
from ncafast.models.nca2d import NCA2D
from ncafast.rule import Rule


class MedNCA(Rebuildable):
    """`model1` (coarse, k=7, 40 steps at 1/4 of the resolution) then `model2` (fine, k=3, 20 steps).

    The coarse state holds the bilinearly shrunk image, its other channels start at 0; they are enlarged bilinearly and
    go on in the fine state beside the full image. state_dict: model1.* and model2.*, each an NCA2D; the notebook
    saves the two apart, load them into `model1` and `model2`.

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
        if classes < 1 or image_channels + classes > channels:
            raise ValueError(
                f"classes={classes} is not allowed: 1 to {channels - image_channels} fit beside "
                f"image_channels={image_channels} into channels={channels}"
            )
        if scale < 1:
            raise ValueError(f"scale={scale} is not allowed: it must be >= 1")
        self.channels = channels
        self.hidden = hidden
        self.kernel_sizes = tuple(kernel_sizes)
        self.steps = tuple(steps)
        self.scale = scale
        self.image_channels = image_channels
        self.classes = classes
        coarse, fine = kernel_sizes
        self.model1 = NCA2D(channels, hidden, coarse, fire_rate, input_channels=image_channels)
        self.model2 = NCA2D(channels, hidden, fine, fire_rate, input_channels=image_channels)

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

    def params(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The rollouts' tensors of the coarse and the fine level."""
        return self.model1.params(), self.model2.params()

    def forward(
        self,
        image: Tensor,
        *,
        seed: int | Tensor | None = None,
        fire_masks: tuple[Tensor, Tensor] | None = None,
        states: States = None,
        memory: Memory = "states",
        **options: Any,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Segment images.

        Args:
            image: [B, image_channels, H, W], H and W at least `scale`; any size, divisible by `scale` or not.
            seed: of the fire masks; both levels draw from it, the fine one at the steps after the coarse one's.
            fire_masks: (coarse, fine) masks [steps, B or 1, 1, *size of the level] instead of drawn ones.
            states: "all" or k: also return every (k-th) state.
            memory: as in `ncafast.rollout`.
            **options: of `ncafast.rollout`: first_sample, backend.

        Returns:
            Logits [B, classes, H, W]; with states= (logits, [coarse states, fine states]), each [n, B, channels, h, w].

        Raises:
            ValueError: a wrong shape, or what `rollout` refuses.
        """
        self._check(image)
        coarse_mask, fine_mask = fire_masks if fire_masks is not None else (None, None)
        options |= {"seed": seed, "states": states, "memory": memory}
        kept: list[Tensor] = []

        small = [size // self.scale for size in image.shape[2:]]
        shrunk = F.interpolate(image, size=small, mode="bilinear")
        hidden = shrunk.new_zeros(image.shape[0], self.channels - self.image_channels, *small)
        state = _level(self.model1, shrunk, hidden, self.steps[0], kept, fire_mask=coarse_mask, **options)

        hidden = state[:, self.image_channels :]
        hidden = F.interpolate(hidden, size=image.shape[2:], mode="bilinear")
        options["first_step"] = self.steps[0]
        state = _level(self.model2, image, hidden, self.steps[1], kept, fire_mask=fine_mask, **options)

        logits = state[:, self.image_channels : self.image_channels + self.classes]
        return logits if states is None else (logits, kept)

    def _check(self, image: Tensor) -> None:
        if image.dim() != 4 or image.shape[1] != self.image_channels:
            raise ValueError(
                f"image must be [B, image_channels={self.image_channels}, H, W], got shape {list(image.shape)}"
            )
        if min(image.shape[2:]) < self.scale:
            raise ValueError(
                f"image of {image.shape[2]} x {image.shape[3]} cells is too small: "
                f"each side must be at least scale={self.scale}"
            )


def _level(model: NCA2D, image: Tensor, hidden: Tensor, steps: int, kept: list[Tensor], **options: Any) -> Tensor:
    """Run one level from its image and its other channels; add kept states to `kept`."""
    result = model(torch.cat((image, hidden), 1), steps, **options)
    if isinstance(result, Tensor):
        return result
    kept.append(result[1])
    return result[0]
