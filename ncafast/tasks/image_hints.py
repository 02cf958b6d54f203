"""What to do with a file that is not an image for Pillow: recognised by its ending or by its first bytes."""

from __future__ import annotations

from pathlib import PurePath

FIRST = 1024  # bytes that `hint` looks at

# Pillow opens many of these as TIFF, and would give the small preview inside.
RAW_ENDINGS = frozenset(
    [".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw"]
)
RAW = "is a camera's raw file; develop it with darktable-cli, RawTherapee or dcraw, and save it as PNG or TIFF"

_HEIC = "is a HEIC photo; convert it with `heif-convert IN OUT.png` or ImageMagick's `magick IN OUT.png`"
_JXL = "is a JPEG XL image; convert it with `djxl IN OUT.png`"
_SVG = "is a vector drawing (SVG); draw its pixels with `rsvg-convert -o OUT.png IN` or Inkscape"
_PDF = "is a PDF document; draw its pages with `pdftoppm -png IN OUT`"
_DICOM = "is a DICOM file; convert it with `dcm2img IN OUT.png` (DCMTK)"
_NIFTI = "is a NIfTI volume, which the mednca commands read; here an image is needed, such as a PNG"
_NUMPY = "is a NumPy array; save it as PNG, or a data set as .npz (see docs/classification.md)"
_TIFF = "is a TIFF of a kind that Pillow does not read (64-bit values, for example); save it with 8 or 16 bits"
_LFS = "is a Git LFS pointer, not the image itself; run `git lfs pull`"
_HTML = "is a web page, not an image; download the image again"
_OTHER = "is not an image, or of a format that Pillow does not read; give a PNG, TIFF or JPEG"

_BY_START = (
    (b"II*\0", _TIFF),
    (b"MM\0*", _TIFF),
    (b"II+\0", _TIFF),
    (b"MM\0+", _TIFF),
    (b"\xff\x0a", _JXL),
    (b"\0\0\0\x0cJXL ", _JXL),
    (b"%PDF", _PDF),
    (b"\x93NUMPY", _NUMPY),
    (b"version https://git-lfs", _LFS),
)
_BY_ENDING = (
    ((".heic", ".heif", ".hif"), _HEIC),
    ((".jxl",), _JXL),
    ((".svg", ".svgz"), _SVG),
    ((".pdf",), _PDF),
    ((".dcm", ".dicom"), _DICOM),
    ((".nii", ".nii.gz"), _NIFTI),
    ((".npy", ".npz"), _NUMPY),
    (tuple(RAW_ENDINGS), RAW),
)
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def hint(name: str, first: bytes) -> str:
    """What a file is and what to do, from its name and its first bytes."""
    if not first:
        return "is an empty file; copy it anew or leave it out"
    if first[4:8] == b"ftyp" and first[8:12] in _HEIC_BRANDS:  # phones call these .jpg too
        return _HEIC
    if first[128:132] == b"DICM":
        return _DICOM
    text = first.lstrip().lower()
    if b"<svg" in text:
        return _SVG
    if text.startswith((b"<!doctype html", b"<html")):
        return _HTML
    for start, said in _BY_START:
        if first.startswith(start):
            return said
    lower = PurePath(name).name.lower()
    return next((said for endings, said in _BY_ENDING if lower.endswith(endings)), _OTHER)
