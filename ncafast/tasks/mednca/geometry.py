"""Where a file's voxels lie: axes that run to the patient's right, front and top, and their sizes in mm."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations

Array = np.ndarray[Any, Any]


def place_of(image: nib.Nifti1Image, shape: tuple[int, int, int]) -> tuple[tuple[float, float, float], Array]:
    """Voxel size in mm along the canonical axes, and the affine [4, 4] of the voxels in their order."""
    to_ras = orientations.io_orientation(image.affine)
    affine = image.affine @ orientations.inv_ornt_aff(to_ras, shape)
    x, y, z = (float(size) for size in nib.affines.voxel_sizes(affine))
    return (x, y, z), affine
