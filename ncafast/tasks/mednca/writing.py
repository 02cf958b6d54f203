"""Writing a result beside the image it belongs to, in the orientation and with the header geometry of that image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations

from ncafast.tasks.mednca.nifti import by, open_nifti, spatial_shape

Array = np.ndarray[Any, Any]


def write_labels(path: Path, labels: Array, like: Path) -> None:
    """Write a label map [X, Y, Z] uint8 in canonical orientation beside the image it belongs to; see `write_map`."""
    write_map(path, labels.astype(np.uint8), like, intent="label")


def write_map(path: Path, values: Array, like: Path, intent: str = "none") -> None:
    """Write one number per voxel beside the image it belongs to.

    ``values`` is [X, Y, Z] uint8 or float32 in canonical orientation; the file gets the orientation, affine, header
    geometry and spatial shape of ``like`` (3-D also where that is 4-D). It appears under its name only when complete.
    """
    source = open_nifti(like)
    shape = spatial_shape(like, source)
    ras = orientations.axcodes2ornt("RAS")
    back = orientations.ornt_transform(ras, orientations.io_orientation(source.affine))
    own = orientations.apply_orientation(values, back)
    if own.shape != shape:
        raise ValueError(f"labels of shape {by(own.shape)} do not fit {like} with {by(shape)} voxels")
    header = source.header.copy()
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1.0, 0.0)
    header.set_intent(intent)
    header["cal_min"] = header["cal_max"] = 0
    if len(source.shape) == 2:
        own = own[:, :, 0]
    ending = ".nii" if path.name.lower().endswith(".nii") else ".nii.gz"
    scratch = path.with_name(f".{path.name}.{os.getpid()}{ending}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        nib.save(type(source)(own, source.affine, header), scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
