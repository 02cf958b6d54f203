"""States as pictures: colours, all channels side by side, several tiles in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

Array = np.ndarray[Any, Any]


def rgb(state: Tensor, *, channels: Sequence[int] = (0, 1, 2), offset: float = 0.0) -> Array:
    """Channels of a state [C, H, W], or of the first sample of [B, C, H, W], as a picture [H, W, 3] uint8.

    Args:
        state: floating point, on any device.
        channels: three channels as red, green and blue, or one as grey.
        offset: is added; values from 0 to 1 then go from black to full colour, and what is beyond is clipped.
    """
    planes = _first(state)[list(channels)] + offset
    planes = planes.nan_to_num(0.0).clamp(0, 1).mul(255).round().byte()
    return np.ascontiguousarray(planes.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy())


def mosaic(
    state: Tensor, *, columns: int | None = None, limit: float | None = None, gap: int = 1, dark: bool = False
) -> Array:
    """Every channel of a state [C, H, W] (or of the first sample of a batch) as one tile of a picture, uint8.

    Values below 0 are blue, 0 is white (black with `dark`), values above 0 are red.

    Args:
        state: floating point, on any device.
        columns: tiles in a row; None makes the mosaic about square.
        limit: value of full colour. None: each channel's own largest magnitude, so that a quiet one is seen too.
        gap: grey pixels between tiles.
        dark: for a dark page.
    """
    planes = _first(state).float().nan_to_num(0.0)
    most = planes.abs().flatten(1).amax(1) if limit is None else planes.new_full((len(planes),), limit)
    share = (planes / most.clamp_min(1e-12)[:, None, None]).clamp(-1, 1)  # [C, H, W]
    if dark:
        parts = share.clamp_min(0), 0.4 * share.abs(), (-share).clamp_min(0)
    else:
        fade = 1 - share.abs()
        parts = (share < 0) * fade + (share >= 0), fade, (share > 0) * fade + (share <= 0)
    colours = np.stack([plane.mul(255).round().byte().cpu().numpy() for plane in parts], -1)
    return tiled(list(colours), columns=columns, gap=gap, colour=64 if dark else 128)


def tiled(
    pictures: Sequence[Array], *, columns: int | None = None, gap: int = 1, colour: int | tuple[int, int, int] = 128
) -> Array:
    """Pictures [H, W, 3] uint8 of one size in rows of `columns`, with `gap` pixels of one colour between them."""
    columns = columns or int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    height, width = pictures[0].shape[:2]
    whole = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), colour, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        whole[top : top + height, left : left + width] = picture
    return whole


def array_of(image: Any) -> Array:
    """A tensor of any device and dtype, or what NumPy makes of anything else."""
    if not isinstance(image, Tensor):
        return np.asarray(image)
    kept = image.detach().cpu()
    return (kept.float() if kept.is_floating_point() else kept).numpy()


def enlarged(picture: Array, scale: int) -> Array:
    """A picture [H, W, 3] with every pixel as a square of `scale` x `scale`."""
    return picture if scale == 1 else picture.repeat(scale, 0).repeat(scale, 1)


def _first(state: Tensor) -> Tensor:
    """[C, H, W] of a state or of the first of a batch."""
    if state.dim() not in (3, 4) or not state.is_floating_point():
        raise ValueError(f"a picture needs a state [C, H, W] or [B, C, H, W], got {list(state.shape)} {state.dtype}")
    return (state if state.dim() == 3 else state[0]).detach()
