"""Checkpoints of this task: a MedNCA or M3DNCA together with the recipe for its input, so that
prediction needs no options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ncafast.models import M3DNCA, MedNCA
from ncafast.tasks.base import Trained
from ncafast.tasks.mednca.inference import Model
from ncafast.tasks.mednca.options import Geometry
from ncafast.tasks.mednca.slices import Recipe
from ncafast.train.model_files import read_model

MOST_SCALE = 1024  # slices are padded to a multiple of it, which needs the memory of its square


KINDS: tuple[type[Model], ...] = (MedNCA, M3DNCA)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a checkpoint holds beside the model: what its input must look like, how many slices it sees together."""

    recipe: Recipe
    group: int


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model, what its input must look like, and how many slices it sees together."""

    model: Model
    recipe: Recipe
    group: int
    path: Path

    @classmethod
    def of(cls, trained: Trained[Spec], geometry: Geometry | None) -> TrainedModel:
        """From what `ncafast.tasks.base.load` gives, see `with_geometry`."""
        spec = trained.spec
        return cls(trained.model, spec.recipe, spec.group, trained.path).with_geometry(geometry)

    def with_geometry(self, geometry: Geometry | None) -> TrainedModel:
        """The same model on volumes whose place is read otherwise than in training; None changes nothing."""
        return self if geometry is None else replace(self, recipe=replace(self.recipe, geometry=geometry))

    @property
    def dims(self) -> int:
        """2 for a model of slices, 3 for one of volumes."""
        return 2 if isinstance(self.model, MedNCA) else 3


def least_sides(model: Model) -> int:
    """Voxels that a volume needs along each side: at every level more than half a kernel, for reflect padding."""
    if isinstance(model, MedNCA):
        return 1
    factors = [model.scale_factor**level for level in reversed(range(model.levels))]
    return max(factor * (size // 2) + 1 for factor, size in zip(factors, model.kernel_size, strict=True))


def metadata_of(recipe: Recipe, group: int) -> dict[str, str]:
    """What a checkpoint holds beside the model."""
    return {"recipe": recipe.to_json(), "group": str(group)}


def read(model: Model, metadata: dict[str, str]) -> Spec:
    """What `metadata_of` wrote. Raises ValueError, KeyError or TypeError for what does not fit."""
    recipe, group = Recipe.from_json(metadata["recipe"]), int(metadata["group"])
    _check(model, recipe, group)
    return Spec(recipe, group)


def load_model(path: Path, device: torch.device) -> TrainedModel:
    """Read a checkpoint, or the best one of a run folder.

    Raises:
        ValueError: one line that names the file, if it is none of this task or corrupt.
    """
    model, spec, path = read_model(path, device, "mednca", KINDS, read)
    return TrainedModel(model, spec.recipe, spec.group, path)


def _check(model: Model, recipe: Recipe, group: int) -> None:
    """Raise ValueError for what would only be noticed later, or never."""
    if isinstance(model, MedNCA) and model.scale > MOST_SCALE:
        raise ValueError(f"scale={model.scale} is not allowed: a whole number from 1 to {MOST_SCALE} is needed")
    if group < 1:
        raise ValueError(f"group={group} is not allowed: a whole number from 1 is needed")
    names = ("classes", "image_channels") if isinstance(model, MedNCA) else ("output_channels", "input_channels")
    for wanted, found in zip(names, (recipe.values, recipe.channels), strict=True):
        count = getattr(model, wanted)
        if len(found) != count:
            raise ValueError(f"the model has {wanted}={count}, but its recipe names {list(found)}")
