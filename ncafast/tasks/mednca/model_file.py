"""Checkpoints of this task: a MedNCA or M3DNCA together with the recipe for its input, so that prediction needs no
options."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ncafast.models import M3DNCA, MedNCA
from ncafast.tasks.base import Trained
from ncafast.tasks.mednca.options import Geometry
from ncafast.tasks.mednca.slices import Recipe

MOST_SCALE = 1024  # slices are padded to a multiple of it, which needs the memory of its square

Model = MedNCA | M3DNCA
KINDS: tuple[type[Model], ...] = (MedNCA, M3DNCA)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a checkpoint holds beside the model: what its input must look like, how many slices it sees together."""

    recipe: Recipe
    group: int


TrainedModel = Trained[Spec]


def with_geometry(trained: TrainedModel, geometry: Geometry | None) -> TrainedModel:
    """The same model on volumes whose position is read otherwise than in training; None changes nothing."""
    if geometry is None:
        return trained
    return replace(trained, spec=replace(trained.spec, recipe=replace(trained.spec.recipe, geometry=geometry)))


def dims_of(model: Model) -> int:
    """2 for a model of slices, 3 for one of volumes."""
    return 2 if isinstance(model, MedNCA) else 3


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
    """What `metadata_of` wrote. Raises ValueError, KeyError or TypeError for what does not fit.

    That includes what would only be noticed later, or never.
    """
    recipe, group = Recipe.from_json(metadata["recipe"]), int(metadata["group"])
    if isinstance(model, MedNCA) and model.scale > MOST_SCALE:
        raise ValueError(f"scale={model.scale} is not allowed: a whole number from 1 to {MOST_SCALE} is needed")
    if group < 1:
        raise ValueError(f"group={group} is not allowed: a whole number from 1 is needed")
    names = ("classes", "image_channels") if isinstance(model, MedNCA) else ("output_channels", "input_channels")
    for name, named in zip(names, (recipe.values, recipe.channels), strict=True):
        count = getattr(model, name)
        if len(named) != count:
            raise ValueError(f"the model has {name}={count}, but its recipe names {list(named)}")
    return Spec(recipe, group)
