"""TotalSegmentator's layout: a folder per case with ct.nii.gz or mri.nii.gz, and one binary mask per structure inside
segmentations/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ncafast.tasks.mednca.modalities import Case, stem
from ncafast.tasks.mednca.pairs import Pair, Skipped, holds_nifti, list_nifti

_IMAGES = tuple(f"{kind}{ending}" for kind in ("ct", "mri") for ending in (".nii.gz", ".nii"))
MASKS = "segmentations"


def cases_in(folder: Path) -> list[Case]:
    """Every subfolder that holds an image, by the subfolder's name; empty for a folder of another layout."""
    if not folder.is_dir():
        return []
    found = []
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        images = [place / name for name in _IMAGES if (place / name).is_file()]
        if images:
            found.append(Case(place.name, (images[0],)))
    return found


def is_layout(folder: Path) -> bool:
    """Whether a case of the folder has its masks beside the image."""
    return any((case.paths[0].parent / MASKS).is_dir() for case in cases_in(folder))


def choose(folder: Path, wanted: Sequence[str]) -> tuple[str, ...]:
    """The structures to learn: the wanted ones, or all that have a mask in some case, by the alphabet.

    Raises ValueError for a name that no case has a mask of.
    """
    there: set[str] = set()
    for case in cases_in(folder):
        masks = case.paths[0].parent / MASKS
        if holds_nifti(masks):
            there |= {stem(path) for path in list_nifti(masks)}
    unknown = [name for name in wanted if name not in there]
    if unknown:
        have = ", ".join(sorted(there)[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
        raise ValueError(f"{folder}: no {MASKS} folder holds a mask {unknown[0]}.nii.gz; there are {have}")
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"--structures names one twice: {' '.join(wanted)}")
    return tuple(wanted) or tuple(sorted(there))


def find_masks(folder: Path, values: Mapping[str, int]) -> tuple[list[Pair], list[Skipped]]:
    """Pairs of an image and its masks, and every case that lacks one.

    Args:
        folder: the data set.
        values: the label value that each structure's mask becomes.
    """
    pairs: list[Pair] = []
    skipped: list[Skipped] = []
    for case in cases_in(folder):
        (image,) = case.paths
        masks = image.parent / MASKS
        files = {stem(path): path for path in list_nifti(masks)} if holds_nifti(masks) else {}
        missing = [name for name in values if name not in files]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            reason = f"{image}: {masks} has no mask {missing[0]}.nii.gz{more}; add it, or choose other --structures"
            skipped.append(Skipped(image, reason))
        else:
            pairs.append(Pair(case.name, image, masks, masks=tuple((v, files[name]) for name, v in values.items())))
    if not pairs:
        raise ValueError(f"{folder}: no case has all masks; {skipped[0].reason}")
    return pairs, skipped
