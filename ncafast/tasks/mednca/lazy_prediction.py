"""Segmenting an image that is read, and its labels that are written, box by box."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ncafast.tasks.mednca.inference import groups
from ncafast.tasks.mednca.label_target import LabelTarget
from ncafast.tasks.mednca.lazy import LazySlices
from ncafast.tasks.mednca.model_file import TrainedModel, dims_of
from ncafast.tasks.mednca.tiled import ModelInput
from ncafast.utils.seeds import mix
from ncafast.volume import cascade_tiled

Array = np.ndarray[Any, Any]


class Labels(Protocol):
    """Where class numbers go."""

    @property
    def grain(self) -> tuple[int, int, int]:
        """Those that are stored together, along S, H, W."""

    def write(self, numbers: slice, rows: slice, columns: slice, classes: Array) -> None:
        """Store those of some slices, [s, h, w] uint8."""


def segment(
    trained: TrainedModel, slices: LazySlices, labels: Labels, *, seed: int, folder: Path, progress: bool = False
) -> Array:
    """Write the labels of all slices, those that `inference.segment` finds in one run in enough memory.

    Args:
        trained: the model.
        slices: of the image.
        labels: where they go.
        seed: of the cells that fire.
        folder: for states.
        progress: show a bar for every group of slices.

    Returns:
        Voxels by slice and class, [S, K].
    """
    model, spec = trained.model, trained.spec
    count, _, *sides = slices.shape
    parts = groups(count, spec.group) if dims_of(model) == 2 else [range(count)]
    found = np.zeros((count, len(spec.recipe.values)), np.int64)
    for number, members in enumerate(parts):
        source = ModelInput(model, slices.of(members), 1)
        store = partial(_store, labels, members)
        target = LabelTarget(model, source.shape, (len(members), *sides), store, labels.grain, folder)
        cascade_tiled(model, source, out=target, seed=mix("predict", seed, 0, number), progress=progress)
        found[members.start :: members.step] = target.found
    return found


def _store(labels: Labels, members: range, numbers: slice, rows: slice, columns: slice, classes: Array) -> None:
    """Those of a part of some slices."""
    some = members[numbers]
    labels.write(slice(some.start, some.stop, some.step), rows, columns, classes)
