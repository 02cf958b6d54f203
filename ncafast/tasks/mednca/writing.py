"""Writing results beside the image that they belong to, in its orientation and with its header geometry: a label map,
a map of numbers, or one binary mask per label, as TotalSegmentator writes them."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np

from ncafast.tasks.mednca.geometry import position_of
from ncafast.tasks.mednca.nifti import by, open_nifti
from ncafast.tasks.mednca.options import Geometry
from ncafast.tasks.mednca.slices import Array, Recipe
from ncafast.utils.outputs import finished


def write_labels(path: Path, labels: Array, like: Path, geometry: Geometry = "sform") -> None:
    """Write a label map [X, Y, Z] uint8 in canonical orientation beside the image it belongs to; see `write_map`."""
    write_map(path, labels.astype(np.uint8), like, "label", geometry)


def write_map(path: Path, values: Array, like: Path, intent: str = "none", geometry: Geometry = "sform") -> None:
    """Write one number per voxel beside the image it belongs to. The file appears under its name only when complete.

    Args:
        path: of the new file.
        values: [X, Y, Z] uint8 or float32 in canonical orientation.
        like: the image. The file gets its orientation, affines, header geometry and spatial shape (3-D also where it is
            4-D), also those that `geometry` did not choose.
        intent: what the values are, as nibabel names it.
        geometry: what of the image's header said where its voxels lie when it was read.
    """
    source = open_nifti(like)
    stored = position_of(source, geometry).to_stored(values)
    if stored.shape != source.shape:
        raise ValueError(f"values of shape {by(stored.shape)} do not fit {like} with {by(source.shape)} voxels")
    header = source.header.copy()
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1.0, 0.0)
    header.set_intent(intent)
    header.set_data_offset(0)  # behind the header's extensions, wherever that is
    header["cal_min"] = header["cal_max"] = 0
    if len(header.get_data_shape()) == 2:
        stored = stored[:, :, 0]
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    with finished(path) as scratch:
        nib.save(kind(stored, None, header), scratch)  # without an affine the header's stay as they are


def mask_names(recipe: Recipe) -> list[str]:
    """A file name without its ending for each label value: the label's name as far as a file may have it."""
    names: list[str] = []
    for value in recipe.values:
        name = re.sub(r"[^\w.+-]+", "_", recipe.name_of(value)).strip("._") or f"label_{value}"
        taken = {other.casefold() for other in names}
        names.append(f"{name}_{value}" if name.casefold() in taken else name)
    return names
