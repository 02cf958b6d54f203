"""What a NIfTI header must say for its file to be read, and which of its errors are repaired, in words."""

from __future__ import annotations

import nibabel as nib
import numpy as np

_FATAL = 40  # nibabel's level of an error that leaves no way to read the file
_CODES = range(6)  # of sform and qform
_TYPES = nib.nifti1.data_type_codes


class HeaderError(ValueError):
    """What is wrong with a header and what to do, to be put after the file's name."""


class _Silent:
    """A logger for nibabel: what it would print names no file, and `repairs_of` says it in our words."""

    def log(self, level: int, message: str) -> None:
        """Nothing."""


def repairs_of(header: nib.Nifti1Header) -> dict[str, str]:
    """What a header as it was read says against the format or against custom, and what is made of it, by the field."""
    found = {}
    for name in ("sform_code", "qform_code"):
        if int(header[name]) not in _CODES:
            found[name] = f"{name} is {int(header[name])}, which is no code; it is taken as 0"
    sizes = header["pixdim"][1 : 1 + min(3, max(1, int(header["dim"][0])))]
    if (sizes <= 0).any() and int(header["sform_code"]) not in _CODES[1:]:
        shown = " x ".join(f"{size:g}" for size in sizes)
        found["pixdim"] = f"its voxel size is {shown} (pixdim); 0 is taken as 1, and signs are left out"
    code, bits = int(header["datatype"]), int(header["bitpix"])
    if code in _TYPES.dtype and bits not in (0, 8 * header.get_data_dtype().itemsize):
        found["bitpix"] = f"it says {bits} bits per voxel (bitpix), and type {_TYPES.label[code]}; the type is taken"
    unit = {1: "metres", 3: "micrometres"}.get(int(header["xyzt_units"]) & 7)
    if unit is not None:
        found["xyzt_units"] = f"its voxel sizes are in {unit} (xyzt_units); they are converted to mm"
    if not np.isfinite(header["scl_slope"]):
        found["scl_slope"] = f"scl_slope is {float(header['scl_slope']):g}; its voxels are taken as stored"
    return found


def check_header(header: nib.Nifti1Header) -> None:
    """Repair what the format leaves no doubt about.

    Raises HeaderError for a header that cannot be used, and what nibabel raises.
    """
    header.check_fix(logger=_Silent(), error_level=_FATAL)
    if header["magic"].item() == header.pair_magic:
        raise HeaderError("says that its voxels are in a separate .img file; convert the two into one .nii.gz")
    offset, least = float(header["vox_offset"]), header.single_vox_offset
    if not least <= offset < np.inf:
        raise HeaderError(f"says that its voxels start at byte {offset:g} (vox_offset), inside its header; correct it")
    if header.get_data_dtype().kind not in "iuf":
        name = _TYPES.label[int(header["datatype"])]
        raise HeaderError(f"holds voxels of type {name}; real numbers are needed, so convert it")
    shape = tuple(int(size) for size in header.get_data_shape())
    allowed = 2 <= len(shape) <= 4 or (len(shape) == 5 and shape[3] == 1)
    if not allowed or min(shape) < 1:
        raise HeaderError(f"has shape {'x'.join(map(str, shape))}; 3-D, or 4-D with channels last, is needed")
    if not np.isfinite(header["scl_inter"]) and header["scl_slope"] != 0 and np.isfinite(header["scl_slope"]):
        raise HeaderError(f"has scl_inter={float(header['scl_inter']):g}, so its intensities are not known; correct it")
