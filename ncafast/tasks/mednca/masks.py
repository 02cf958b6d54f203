"""One binary mask per label beside a label map, as TotalSegmentator writes them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ncafast.tasks.mednca.slices import Array, Recipe
from ncafast.tasks.mednca.writing import write_labels


def mask_names(recipe: Recipe) -> dict[int, str]:
    """A file name without its ending for each label value: the label's name as far as a file may have it."""
    names: dict[int, str] = {}
    for value in recipe.values:
        name = re.sub(r"[^\w.+-]+", "_", recipe.name_of(value)).strip("._") or f"label_{value}"
        taken = {other.casefold() for other in names.values()}
        names[value] = f"{name}_{value}" if name.casefold() in taken else name
    return names


def mask_paths(folder: Path, recipe: Recipe) -> dict[int, Path]:
    """The file of each label value in a case's folder."""
    return {value: folder / f"{name}.nii.gz" for value, name in mask_names(recipe).items()}


def write_masks(folder: Path, recipe: Recipe, labels: Array, like: Path) -> tuple[Path, ...]:
    """Write <folder>/<name>.nii.gz with 0 and 1 for every label, also for those that were not found.

    Args:
        folder: of the case.
        recipe: of the model.
        labels: [X, Y, Z] label values in canonical orientation.
        like: the image whose geometry the files get.
    """
    paths = mask_paths(folder, recipe)
    for value, path in paths.items():
        write_labels(path, (labels == value).astype(np.uint8), like, recipe.geometry)
    return tuple(paths.values())
