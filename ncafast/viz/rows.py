"""Images of one size side by side in one panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from torch import Tensor

from ncafast.utils.texts import printable
from ncafast.viz.figures import Array
from ncafast.viz.pixels import array_of

_GAP = 0.04  # between two images, as a part of their width


def show_image_row(
    axes: Axes,
    images: Sequence[Any],
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str = "gray",
    overlays: Sequence[Any] | None = None,
    overlay_cmap: str = "plasma",
    overlay_vmin: float | None = None,
    overlay_vmax: float | None = None,
    label: str = "",
    names: Sequence[Any] | None = None,
    colorbar: bool = False,
    normalize: bool = False,
    aspect: float = 1.0,
) -> None:
    """Show images side by side in a panel of matplotlib.

    Args:
        axes: the panel.
        images: of one height and width: values [H, W], or colours, uint8 or from 0 to 1, as tensors [3, H, W] or arrays
            [H, W, 3], or with alpha. Where only the other layout is possible, it is taken.
        vmin: value of the first colour; None takes the lowest of all images.
        vmax: value of the last colour; None takes the highest.
        cmap: matplotlib's name of the colours of values.
        overlays: a mask or map [H, W] for each image; what is 0 or NaN lets the image be seen.
        overlay_cmap: as `cmap`, for overlays.
        overlay_vmin: as `vmin`, for overlays.
        overlay_vmax: as `vmax`, for overlays.
        label: to the left of the first image.
        names: one below each image, such as `range(8)`.
        colorbar: show the scale of the values, to the right of the last image.
        normalize: stretch colours so that the lowest number of all images is black and the highest white.
        aspect: height of a pixel over its width.

    Raises:
        ValueError: no images, images of several sizes, or another number of names or overlays.
    """
    shown = [_channels_last(image) for image in images]
    covers = [_channels_last(each) for each in overlays or ()]
    _check(shown, covers, len(names) if names is not None else None)
    height, width = shown[0].shape[:2]
    scale = _scale([image for image in shown if image.ndim == 2], vmin, vmax)
    cover_scale = _scale(covers, overlay_vmin, overlay_vmax)
    low, high = _ends(shown) if normalize else (0.0, 0.0)
    for number, image in enumerate(shown):
        left = number * width * (1 + _GAP)
        place: Any = {"extent": (left, left + width, height, 0), "interpolation": "nearest"}
        if normalize and image.ndim == 3:
            image = (image.astype(float) - low) / max(high - low, 1e-12)
        axes.imshow(image, cmap=cmap, norm=scale, **place) if image.ndim == 2 else axes.imshow(image, **place)
        if covers:
            cover = np.ma.masked_where(~(np.abs(covers[number]) > 0), covers[number])
            axes.imshow(cover, cmap=overlay_cmap, norm=cover_scale, alpha=0.55, **place)
    axes.set(xlim=(0, left + width), ylim=(height, 0), yticks=[], aspect=aspect)
    middles = [(number * (1 + _GAP) + 0.5) * width for number in range(len(shown))]
    axes.set_xticks(middles if names is not None else [], [printable(str(name)) for name in names or ()])
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set_ylabel(printable(label), fontsize=9, parse_math=False)
    if colorbar:
        beside = axes.inset_axes((1.01, 0.0, 0.012, 1.0))  # as high as the images
        bar = axes.figure.colorbar(ScalarMappable(scale, cmap), cax=beside)
        bar.ax.tick_params(labelsize=7)


def _channels_last(image: Any) -> Array:
    """[H, W] of values, or [H, W, 3 or 4] of colours."""
    array = array_of(image)
    first, last = (array.ndim == 3 and array.shape[axis] in (1, 3, 4) for axis in (0, -1))
    if first and (isinstance(image, Tensor) or not last):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] in (3, 4)):
        raise ValueError(f"an image must be [H, W], or colours [3, H, W] or [H, W, 3], got {list(array.shape)}")
    return array if array.dtype == np.uint8 or array.ndim == 2 else np.clip(array, 0, 1)


def _check(images: Sequence[Array], overlays: Sequence[Array], names: int | None) -> None:
    if not images:
        raise ValueError("images is empty; give at least one")
    sizes = {image.shape[:2] for image in (*images, *overlays)}
    if len(sizes) > 1:
        raise ValueError(f"images and overlays must have one size, got {' and '.join(map(str, sorted(sizes)))}")
    for what, count in (("names", names), ("overlays", len(overlays) or None)):
        if count not in (None, len(images)):
            raise ValueError(f"there are {len(images)} images and {count} {what}; give one for each")


def _ends(images: Sequence[Array]) -> tuple[float, float]:
    finite = [image[np.isfinite(image)] for image in images]
    values = np.concatenate([each.ravel() for each in finite]) if finite else np.zeros(0)
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def _scale(images: Sequence[Array], low: float | None, high: float | None) -> Normalize:
    lowest, highest = _ends(images)
    low, high = lowest if low is None else low, highest if high is None else high
    return Normalize(low, high if high > low else low + 1e-6)
