"""What to do with medical images that are not NIfTI: recognised by their endings or their first bytes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_DICOM = "is DICOM, which a series of files makes a volume of; convert their folder with `dcm2niix -z y -o OUT FOLDER`"
_ITK = (
    "is {kind}; convert it in 3D Slicer (Save as .nii.gz), or with SimpleITK: "
    "sitk.WriteImage(sitk.ReadImage('IN'), 'OUT.nii.gz')"
)
_FREESURFER = "is an image of FreeSurfer; convert it with `mri_convert IN OUT.nii.gz`"
_MINC = "is MINC; convert it with `mnc2nii IN OUT.nii`"
_BY_ENDING = {
    (".dcm", ".dicom", ".ima"): _DICOM,
    (".nrrd", ".nhdr"): _ITK.format(kind="NRRD"),
    (".mha", ".mhd"): _ITK.format(kind="MetaImage"),
    (".mgz", ".mgh"): _FREESURFER,
    (".mnc",): _MINC,
    (".hdr", ".img", ".hdr.gz", ".img.gz"): (
        "keeps header and voxels in two files; convert the two into one .nii.gz, with nibabel: "
        "nibabel.save(nibabel.load('IN.hdr'), 'OUT.nii.gz')"
    ),
}
_LOOKED_AT = 200  # files of a folder


def hint(path: Path) -> str | None:
    """What a file is and which tool converts it; None for a file of no other known format.

    DICOM files often have no ending: they have DICM at byte 128.
    """
    lower = path.name.lower()
    for endings, said in _BY_ENDING.items():
        if lower.endswith(endings):
            return said
    try:
        if path.is_file():
            with path.open("rb") as file:
                return _DICOM if file.read(132)[128:] == b"DICM" else None
    except OSError:
        return None  # whoever wants to read it says why
    return None


def hint_among(paths: Iterable[Path]) -> str:
    """The first file of another known format and what it is, as the end of an error; nothing where there is none."""
    for path, _ in zip(paths, range(_LOOKED_AT), strict=False):
        if said := hint(path):
            return f"{path.name} {said}"
    return ""
