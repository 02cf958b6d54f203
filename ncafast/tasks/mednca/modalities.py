"""Which files are the modalities of one case: nnU-Net numbers them case_0000.nii.gz, case_0001.nii.gz and so on.

Four digits may also be part of a name (scan_2019, patient_0001). Where there are label maps, their names tell; without
them, as in prediction, what the model was trained on, and whether the files share one geometry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncafast.tasks.mednca.options import Suffix
from ncafast.tasks.mednca.volumes import read_shape, read_spacing

_NUMBER = re.compile(r"(.+)_(\d{4})", re.DOTALL)
_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_MOST = 8  # modalities of one case; more files in a row are patients


@dataclass(frozen=True, slots=True)
class Case:
    """The image files of one case, in the order of their numbers."""

    name: str
    paths: tuple[Path, ...]
    missing: tuple[int, ...] = ()
    """Numbers that are not there, below the largest one."""


def stem(path: Path) -> str:
    """The file name without .nii or .nii.gz."""
    return _NIFTI.sub("", path.name)


def numbered(path: Path) -> tuple[str, int] | None:
    """("case", 1) for case_0001.nii.gz; None without four digits at the end."""
    found = _NUMBER.fullmatch(stem(path))
    return (found[1], int(found[2])) if found else None


def ending(number: int) -> str:
    """_0001 for 1."""
    return f"_{number:04d}"


def together(files: Iterable[Path]) -> list[Case]:
    """The cases of files whose endings are the numbers of modalities; a file without one is a case of its own."""
    groups: dict[str, dict[int, Path]] = {}
    alone = []
    for path in files:
        found = numbered(path)
        if found is None or found[1] in groups.get(found[0], {}):  # the same number twice: .nii and .nii.gz
            alone.append(Case(stem(path), (path,)))
        else:
            groups.setdefault(found[0], {})[found[1]] = path
    cases = [_case(name, group) for name, group in groups.items()]
    return sorted(cases + alone, key=lambda case: case.paths[0].name)


def _case(name: str, group: dict[int, Path]) -> Case:
    numbers = sorted(group)
    missing = tuple(number for number in range(min(numbers[-1], _MOST)) if number not in group)
    return Case(name, tuple(group[number] for number in numbers), missing)


def apart(files: Iterable[Path]) -> list[Case]:
    """Every file as a case of its own."""
    return [Case(stem(path), (path,)) for path in files]


def cases_of(
    files: Sequence[Path], *, wanted: int, trained_on_numbers: bool, suffix: Suffix, note: Callable[[str], None]
) -> list[Case]:
    """The cases among the files of a folder that a model is to segment.

    Args:
        files: all images of the folder.
        wanted: files per case that the model takes.
        trained_on_numbers: whether the images that it was trained on ended in _0000.
        suffix: what such an ending means; auto decides.
        note: is called with one line for a decision that could have been another one.
    """
    if suffix == "name":
        return apart(files)
    cases = together(files)
    if suffix == "modality" or wanted > 1:
        return cases
    several = [case for case in cases if len(case.paths) > 1 and not case.missing]
    if not several:
        return apart(files)
    if trained_on_numbers or _looks_like_modalities(several):
        return cases
    example = ", ".join(path.name for path in several[0].paths[:2])
    note(
        f"{example} and the like are taken as a case each, since the model takes one image per case; "
        "--suffix modality takes them as channels of one case"
    )
    return apart(files)


def siblings(path: Path, files: Sequence[Path]) -> Case | None:
    """The case that a numbered file belongs to; None if its name has no number."""
    return next((case for case in together(files) if path in case.paths), None) if numbered(path) else None


def _looks_like_modalities(cases: Sequence[Case]) -> bool:
    """Whether all cases have equally many files, few, of one geometry."""
    counts = {len(case.paths) for case in cases}
    if len(counts) > 1 or max(counts) > _MOST:
        return False
    return all(len({(read_shape(path), read_spacing(path)) for path in case.paths}) == 1 for case in cases)
