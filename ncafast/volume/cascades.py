"""cascade_tiled(): MedNCA and M3DNCA on images larger than memory, level by level, each over tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncafast import check
from ncafast.backends.precision import precision, use_precision
from ncafast.layers import collects
from ncafast.models import M3DNCA, MedNCA
from ncafast.models.base import RuleModule
from ncafast.models.cascade import level_sizes
from ncafast.models.memory import Cascade
from ncafast.volume.array import Array
from ncafast.volume.arrays import shared, wrap
from ncafast.volume.level_states import Channels, FirstState, Room
from ncafast.volume.resized import Resize, bilinear, pooled, repeated, same
from ncafast.volume.tensor_array import TensorArray
from ncafast.volume.tiles import rollout_tiled


def cascade_tiled(
    model: Cascade,
    image: Any,  # [B, image channels, *S]
    *,
    out: Any = None,  # [B, classes, *S]
    scratch: str | Path | None = None,
    tile: int | Sequence[int] | None = None,
    memory_limit: int | str | None = None,
    progress: bool = True,
    seed: int | Tensor | None = None,
    first_step: int = 0,
    first_sample: int = 0,
    backend: str | None = None,
    device: torch.device | str | None = None,
) -> Any:
    """Segment images whose states need not fit in memory, with the logits of `model(image)`.

    Every level runs by `rollout_tiled`: fire masks are equal bit for bit, logits within the rounding of the backend.
    No level's first state is stored; it is resized tile by tile from the image and what the level before left.

    Args:
        model: on whole images, in training mode too. It is not changed.
        image: [B, image channels, *S], channels first for M3DNCA too, in float16, float32 or float64; a tensor or any
            array that `rollout_tiled` takes.
        out: where the logits go, [B, classes, *S] of image's dtype, of any kind that image may be of. None takes a new
            tensor, or a new numpy array if image is no tensor.
        scratch: folder for states that do not fit in memory. None: beside an out on disk; else they are in memory.
        tile: as for `rollout_tiled`, at every level.
        memory_limit: as for `rollout_tiled`.
        progress: as for `rollout_tiled`.
        seed: of the fire masks, as for the model.
        first_step: as for the model.
        first_sample: as for the model.
        backend: as for `rollout_tiled`.
        device: as for `rollout_tiled`.

    Returns:
        out, holding the logits.

    Raises:
        TypeError, ValueError: a wrong argument, or a model that cannot run in parts.
        MemoryError, OSError, RuntimeError: as `rollout_tiled`.
    """
    source = wrap("image", image)
    levels = levels_of(model, source)
    first_step = check.check_count("first_step", first_step)
    classes = model.classes if isinstance(model, MedNCA) else model.output_channels
    images = levels[0].images
    result = _empty(source, classes) if out is None else out
    target = _checked_out(result, source, classes)
    if out is None:
        target.own = math.prod(target.shape) * target.dtype.itemsize
    options: dict[str, Any] = {"tile": tile, "memory_limit": memory_limit, "progress": progress, "seed": seed}
    options |= {"first_sample": first_sample, "backend": backend, "device": device}
    room = Room(target, scratch)
    before: Array | None = None
    after: Array | None = None
    try:
        for level in levels:
            rule, finest = level.automaton.rule, level is levels[-1]
            state = FirstState(source, level.shrink, before, level.enlarge, rule.channels, level.size)
            after = None if finest else room.array((source.shape[0], rule.channels - images, *level.size))
            read = slice(images, images + classes if finest else None)
            to = Channels(after or target, read, state.shape, room)
            rounding = precision(torch.empty((), dtype=source.dtype), linear=level.automaton._linear_layers)
            with use_precision(rounding):
                params = level.automaton.params()
                rollout_tiled(state, rule, params, level.steps, out=to, first_step=first_step, **options)
            first_step += level.steps
            if before is not None:
                before.close()
            before = after
    finally:
        for array in (before, after):
            if array is not None:
                array.close()
    return result


@dataclass(frozen=True)
class Level:
    """One automaton of a cascade and the grid that it runs on.

    Attributes:
        automaton: that runs.
        steps: that it takes.
        size: cells of its grid per axis.
        shrink: makes its image of the whole one.
        enlarge: makes its hidden channels of those of the level before.
        images: channels of the image.
    """

    automaton: RuleModule
    steps: int
    size: tuple[int, ...]
    shrink: Resize
    enlarge: Resize
    images: int


def levels_of(model: Cascade, image: Array) -> list[Level]:
    """The levels of a model on an image, from coarse to fine.

    Raises:
        TypeError, ValueError: no such model, an image that does not fit, or norms that would change.
    """
    if not isinstance(model, (MedNCA, M3DNCA)):
        raise TypeError(f"model must be a MedNCA or an M3DNCA, got {type(model).__name__}")
    for level in model._levels:
        if collects(level._norms()):
            raise ValueError("a norm of the model collects running statistics, which tiles do not: call model.eval()")
    size = image.shape[2:]
    resizes: list[tuple[tuple[int, ...], Resize, Resize]]
    if isinstance(model, MedNCA):
        model._check(torch.empty((), dtype=image.dtype).expand(image.shape))
        images, small = model.image_channels, tuple(side // model.scale for side in size)
        resizes = [(small, bilinear(small), same), (size, same, bilinear(size))]
    else:
        images, scale = model.input_channels, model.scale_factor
        if len(size) != 3 or image.shape[1] != images:
            raise ValueError(f"image must be [B, input_channels={images}, X, Y, Z], got shape {list(image.shape)}")
        sizes = level_sizes(size, scale, model.levels)
        factors = [scale**level for level in reversed(range(model.levels))]
        resizes = [(cells, pooled(n), repeated(scale)) for cells, n in zip(sizes, factors, strict=True)]
    each = zip(model._levels, model.steps, resizes, strict=True)
    return [Level(automaton, steps, *how, images) for automaton, steps, how in each]


def _empty(image: Array, classes: int) -> Any:
    shape = (image.shape[0], classes, *image.shape[2:])
    if isinstance(image, TensorArray):
        return torch.empty(shape, dtype=image.dtype, device=image.device)
    return np.empty(shape, str(image.dtype).removeprefix("torch."))


def _checked_out(out: Any, image: Array, classes: int) -> Array:
    target, shape = wrap("out", out), (image.shape[0], classes, *image.shape[2:])
    if target.shape != shape or target.dtype != image.dtype:
        here, there = (
            f"{list(sides)} of {str(dtype).removeprefix('torch.')}"
            for sides, dtype in ((target.shape, target.dtype), (shape, image.dtype))
        )
        raise ValueError(f"out is {here}, but the logits are {there}; both must agree")
    shared(image, target)
    target.reserve()
    return target
