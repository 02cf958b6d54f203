"""Finding the files: which image belongs to which label map, and which files have no partner.

nnU-Net numbers the modalities of a case, case_0000.nii.gz, case_0001.nii.gz and so on. Four digits may also be part of
a name (scan_2019, patient_0001); the names of the label maps tell which they are.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from ncafast.medical_formats import hint, hint_among
from ncafast.missing import missing
from ncafast.tasks.mednca.options import Suffix
from ncafast.utils.progress import note

_LAYOUTS = (("imagesTr", "labelsTr"), ("images", "labels"))
_NIFTI = re.compile(r"([^.].*)\.nii(\.gz)?", re.IGNORECASE | re.DOTALL)  # a name may hold line breaks
_NUMBER = re.compile(r"(.+)_(\d{4})", re.DOTALL)  # as nnU-Net numbers the modalities of a case
_IMAGE_ENDING = re.compile(r"(_0000|[_-](image|img))$", re.IGNORECASE)
_LABEL_ENDING = re.compile(r"[_-](label|labels|seg|mask|gt)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """A case: its image file or files, and its label map, under their common name."""

    name: str
    image: Path
    label: Path
    """The label map, or the folder of the masks."""
    others: tuple[Path, ...] = ()
    """The second and further modalities, in the order of their numbers."""
    masks: tuple[tuple[int, Path], ...] = ()
    """Label values and mask files, where there is one per structure."""

    @property
    def images(self) -> tuple[Path, ...]:
        """All image files."""
        return (self.image, *self.others)

    @property
    def sources(self) -> tuple[Path, ...]:
        """All files."""
        return (*self.images, *(path for _, path in self.masks)) if self.masks else (*self.images, self.label)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was left out, and why, in one line that names it."""

    path: Path
    reason: str


def stem(path: Path) -> str:
    """The file name without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def numbered(path: Path) -> tuple[str, int] | None:
    """("case", 1) for case_0001.nii.gz; None without four digits at the end."""
    match = _NUMBER.fullmatch(stem(path))
    return (match[1], int(match[2])) if match else None


def ending(number: int) -> str:
    """_0001 for 1."""
    return f"_{number:04d}"


def list_nifti(folder: Path) -> list[Path]:
    """All .nii and .nii.gz files right inside ``folder``, sorted; hidden files are ignored.

    A note names medical images of other formats that lie between them.

    Raises ValueError if the folder does not exist or holds none.
    """
    if not folder.is_dir():
        what = f"is a file, and {hint(folder) or 'no folder'}" if folder.is_file() else missing(folder, "folder")
        raise ValueError(f"{folder}: {what}; give a folder that holds NIfTI files")
    shown = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and not path.is_dir()]
    files = [path for path in shown if _NIFTI.fullmatch(path.name)]
    other = hint_among(path for path in shown if not _NIFTI.fullmatch(path.name))
    if not files:
        raise ValueError(f"{folder}: holds no .nii or .nii.gz file; {other or 'give the folder that holds them'}")
    if other:
        note(f"{folder}: only its {len(files)} NIfTI files are read; {other}")
    return files


def holds_nifti(folder: Path) -> bool:
    """Whether there is such a folder, and a NIfTI file right inside it."""
    return folder.is_dir() and any(_NIFTI.fullmatch(path.name) for path in folder.iterdir() if not path.is_dir())


def volume_name(path: Path) -> str:
    """The name an image and its label map share: the stem without an ending such as _0000, _image or _seg."""
    return _LABEL_ENDING.sub("", _IMAGE_ENDING.sub("", stem(path)))


def resolve_folders(data: Path | None, images: Path | None, labels: Path | None) -> tuple[Path, Path]:
    """The image folder and the label folder that the options mean.

    Raises ValueError if they name none, or contradict each other.
    """
    if images is not None or labels is not None:
        if data is not None:
            raise ValueError("give either --data, or --images and --labels, not both")
        if images is None or labels is None:
            missing = "--images" if images is None else "--labels"
            raise ValueError(f"--images and --labels belong together; {missing} is missing")
        return images, labels
    if data is None:
        raise ValueError("no data given: give --data FOLDER, or --images FOLDER --labels FOLDER")
    for image_folder, label_folder in _LAYOUTS:
        if (data / image_folder).is_dir() and (data / label_folder).is_dir():
            return data / image_folder, data / label_folder
    return data, data


def find_pairs(
    images: Path, labels: Path, *, modalities: int = 0, suffix: Suffix = "auto"
) -> tuple[list[Pair], list[Skipped]]:
    """Match the images of one folder with the label maps of another, or of the same one.

    Files match when their names agree once endings such as _0000, _image, _label, _seg, _mask or
    _gt are taken off. In one common folder a label map is known by such an ending. Several images
    case_0000, case_0001 ... of one label map case are its modalities.

    Args:
        images: folder of the images.
        labels: folder of the label maps.
        modalities: files that every case must have, if some have several; 0 takes as many as most cases have.
        suffix: whether an ending such as _0001 numbers a modality or is part of a name. auto: a modality, unless a
            label map has it in its name too.

    Returns:
        The pairs sorted by name, and every file without a clear partner.
    """
    if images.resolve() == labels.resolve():
        files = list_nifti(images)
        label_files = [path for path in files if _LABEL_ENDING.search(stem(path))]
        image_files = [path for path in files if path not in set(label_files)]
        if not image_files or not label_files:
            raise ValueError(
                f"{images}: holds {len(image_files)} images and {len(label_files)} label maps; put them into "
                "imagesTr/ and labelsTr/, or name them case1_image.nii.gz and case1_label.nii.gz"
            )
    else:
        image_files, label_files = list_nifti(images), list_nifti(labels)

    cases: defaultdict[str, _Files] = defaultdict(_Files)
    for path in label_files:
        cases[volume_name(path)].labels.append(path)
    whole = {_LABEL_ENDING.sub("", stem(path)) for path in label_files}
    if suffix == "modality":
        whole |= cases.keys()
    for path in image_files:
        case, number = numbered(path) or ("", 0)
        if suffix != "name" and number and case in whole and (volume_name(path) not in cases or suffix == "modality"):
            cases[case].images[number].append(path)
        else:
            cases[volume_name(path)].images[0].append(path)
    if suffix == "auto":
        _release(cases)
    several = any(number for files in cases.values() for number in files.images)
    pairs, skipped = _sort_out(cases, images, labels, (modalities if several else 0) or _usual(cases))
    if not pairs:
        raise ValueError(
            f"{images}: none of its {len(image_files)} images has a label map of the same name in {labels} "
            f"(such as {image_files[0].name} and {label_files[0].name}); rename the files"
            if not several
            else f"{images}: no case has all of its modalities; {skipped[0].reason}"
        )
    return pairs, skipped


@dataclass(slots=True)
class _Files:
    """The files under one name: images by their number, 0 for those without one, and label maps."""

    images: defaultdict[int, list[Path]] = field(default_factory=lambda: defaultdict(list))
    labels: list[Path] = field(default_factory=list)

    def numbers(self) -> list[int]:
        """Those of the modalities."""
        return sorted(self.images)


def _release(cases: defaultdict[str, _Files]) -> None:
    """Take higher numbers as parts of names where no _0000 comes before them: case and case_0001 are two scans."""
    for files in list(cases.values()):
        if not any(stem(path).endswith(ending(0)) for path in files.images.get(0, ())):
            for number in filter(None, files.numbers()):
                for path in files.images.pop(number):
                    cases[stem(path)].images[0].append(path)


def _usual(cases: dict[str, _Files]) -> int:
    """How many modalities most cases have of those that lack none; of equally frequent numbers, the larger."""
    known = [files.numbers() for files in cases.values() if files.labels and files.images]
    counts = Counter(len(numbers) for numbers in known if numbers == list(range(len(numbers))))
    if not counts:
        return max((numbers[-1] + 1 for numbers in known), default=1)
    return max(counts, key=lambda count: (counts[count], count))


def _sort_out(
    cases: dict[str, _Files], images: Path, labels: Path, modalities: int
) -> tuple[list[Pair], list[Skipped]]:
    pairs: list[Pair] = []
    skipped: list[Skipped] = []

    def skip(path: Path, reason: str) -> None:
        skipped.append(Skipped(path, f"{path}: {reason}"))

    for name, files in sorted(cases.items()):
        paths = [*(path for number in files.numbers() for path in files.images[number]), *files.labels]
        missing = sorted(set(range(modalities)) - set(files.images))
        if not files.labels:
            reason = f"has no label map called {name}.nii.gz in {labels}; add it or take the image away"
            for path in paths:
                skip(path, f"{reason}{_hint(path, cases)}")
        elif not files.images:
            reason = f"is a label map without an image called {name}.nii.gz in {images}"
            for path in paths:
                skip(path, f"{reason}; add it or take the label away")
        elif any(len(same) > 1 for same in (files.labels, *files.images.values())):
            names = ", ".join(path.name for path in paths)
            several = "keep one of each" if len(files.images) > 1 else "keep two"
            skip(paths[0], f"several files share one name ({names}); {several}")
        elif missing:
            absent = " and ".join(f"{name}{ending(number)}.nii.gz" for number in missing)
            skip(
                paths[0],
                f"its case has no {absent}, and {modalities} modalities are needed; add it or take the case away",
            )
        else:
            first, *others = (files.images[number][0] for number in range(modalities))
            pairs.append(Pair(name, first, files.labels[0], tuple(others)))
            for number in files.numbers()[modalities:]:
                reason = f"is modality {number} of {name}, but a case of this data set has {modalities}; it is not used"
                skip(files.images[number][0], reason)
    return pairs, skipped


def _hint(path: Path, cases: dict[str, _Files]) -> str:
    """For an image whose number may be that of a modality after all."""
    case, number = numbered(path) or ("", 0)
    known = number and case in cases and cases[case].labels
    return f"; or, if it is a modality of {case}, give --suffix modality" if known else ""
