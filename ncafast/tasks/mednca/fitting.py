"""Whether a training fits into memory, before it starts."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from ncafast.free_memory import require, size_text
from ncafast.models.memory import fitting_batch, training_bytes
from ncafast.tasks.mednca.cache import CachedVolume
from ncafast.tasks.mednca.inference import seen_size
from ncafast.tasks.mednca.model_file import Model
from ncafast.tasks.mednca.options import TrainConfig
from ncafast.tasks.planes import padded_size
from ncafast.training_options import memory_of


def check_memory(
    model: Model, config: TrainConfig, train: Sequence[CachedVolume], held_out: Sequence[CachedVolume]
) -> None:
    """Raise MemoryError, one line, if a training step or a held-out volume needs more than is free.

    Args:
        model: on the device that counts.
        config: with nothing left open.
        train: the volumes to train on.
        held_out: those that are segmented after every epoch.
    """
    first = 1 if config.dims == 2 else 0  # slices or volumes
    sides = [max(sides) for sides in zip(*(volume.shape for volume in train), strict=True)][first:]
    window = [min(config.crop or side, side) for side in sides]
    size = [padded_size(side, config.scale ** (config.levels - 1)) for side in (window if first else sides)]
    batch = math.ceil((config.batch_size or 1) / int(os.environ.get("WORLD_SIZE", "1")))
    least = training_bytes(model, 1, size, window, "sqrt")
    if config.spill is None:  # in tiles that fit otherwise
        require(
            training_bytes(model, batch, size, window, memory_of(config)),
            f"a training step on {batch} x {'x'.join(map(str, size))} cells",
            f"--batch-size 1 with --memory sqrt needs {size_text(least)}, --spill FOLDER goes in tiles that fit",
        )
    for volume in held_out:
        try:
            fitting_batch(model, 1, seen_size(model, len(volume), volume.shape[1:]))
        except MemoryError as error:
            raise MemoryError(f"held-out volume {volume.name}: {error}") from None
