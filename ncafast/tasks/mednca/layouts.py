"""A data set in any of the known layouts: its cases, what its dataset.json says of them, and what was decided.

TotalSegmentator's layout is a folder per case with ct.nii.gz or mri.nii.gz, and one binary mask per structure inside
segmentations/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncafast.tasks.mednca.dataset_json import Facts, read_facts
from ncafast.tasks.mednca.options import EvaluateConfig, TrainConfig
from ncafast.tasks.mednca.pairs import (
    Pair,
    Skipped,
    ending,
    find_pairs,
    holds_nifti,
    list_nifti,
    numbered,
    resolve_folders,
    stem,
)
from ncafast.utils.texts import listed

MASKS = "segmentations"
_IMAGES = tuple(f"{kind}{suffix}" for kind in ("ct", "mri") for suffix in (".nii.gz", ".nii"))


@dataclass(frozen=True, slots=True)
class Dataset:
    """The cases of a data set."""

    pairs: tuple[Pair, ...]
    skipped: tuple[Skipped, ...]
    facts: Facts = Facts()
    structures: tuple[tuple[int, str], ...] = ()
    """Label values and names of the masks, where there is one per structure."""

    @property
    def files(self) -> int:
        """Image files of each case."""
        return max((len(pair.images) for pair in self.pairs), default=1)

    @property
    def labels(self) -> tuple[tuple[int, str], ...]:
        """Label values and their names, as far as they are known."""
        return self.structures or self.facts.labels

    @property
    def numbered(self) -> bool:
        """Whether every image is modality 0 of its case by its name, and its label map has the name of the case."""
        return all(
            pair.image.name != pair.label.name and (numbered(pair.image) or "")[1:] == (0,) for pair in self.pairs
        )

    def decided(self) -> list[str]:
        """What was decided about the files of a case, one line each."""
        if self.files == 1:
            return []
        names = self.facts.channels or ("",) * self.files
        each = ", ".join(f"{ending(k)} {name}".strip() for k, name in zip(range(self.files), names, strict=False))
        return [f"each case has {self.files} image files, its channels: {each} (--suffix)"]


def open_dataset(
    config: TrainConfig | EvaluateConfig, wanted: Sequence[str] = (), values: Sequence[int] = (), plain: bool = False
) -> Dataset:
    """Find the cases of the data set that options name.

    Args:
        config: of a training or an evaluation.
        wanted: structures to take, where every one has a mask; none takes all.
        values: label values that they get; none counts them from 1.
        plain: leave dataset.json and higher modalities aside, as earlier versions did.

    Raises:
        ValueError: the options contradict each other, or nothing can be used; one line that says what to do.
    """
    data = config.data
    image_folder, label_folder = resolve_folders(data, config.images, config.labels)
    if data is not None and image_folder == data and not plain and not holds_nifti(data):
        folders = {path: path.parent / MASKS for path in images_by_case(data)}
        if any(folder.is_dir() for folder in folders.values()):
            return _structures(data, folders, wanted, values)
    if wanted and not values:
        raise ValueError(
            f"--structures {' '.join(wanted)}: {image_folder} does not hold a folder per case with "
            f"{MASKS}/ inside; choose label values with --classes"
        )
    facts = Facts() if plain else _facts(data, image_folder, label_folder)
    options = {"modalities": len(facts.channels), "suffix": "name" if plain else config.suffix}
    pairs, skipped = find_pairs(image_folder, label_folder, **options)  # type: ignore[arg-type]
    return Dataset(tuple(pairs), tuple(skipped), facts)


def images_by_case(folder: Path) -> list[Path]:
    """The image of every subfolder that holds one, in TotalSegmentator's layout; none for a folder of another one."""
    subfolders = sorted(folder.glob("[!.]*"))
    candidates = ([path / name for name in _IMAGES if (path / name).is_file()] for path in subfolders)
    return [images[0] for images in candidates if images]


def _structures(data: Path, folders: Mapping[Path, Path], wanted: Sequence[str], values: Sequence[int]) -> Dataset:
    """The cases that have a mask of every wanted structure, or of all that occur, by the alphabet.

    Raises ValueError for a name that no case has a mask of.
    """
    masks = {
        image: {stem(path): path for path in list_nifti(folder)} if holds_nifti(folder) else {}
        for image, folder in folders.items()
    }
    known = sorted({name for files in masks.values() for name in files})
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"{data}: no {MASKS} folder holds a mask {unknown[0]}.nii.gz; there are {listed(known)}")
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"--structures names one twice: {' '.join(wanted)}")
    names = wanted or known
    structures = tuple(zip(values or range(1, len(names) + 1), names, strict=True))
    pairs: list[Pair] = []
    skipped: list[Skipped] = []
    for image, files in masks.items():
        missing = [name for name in names if name not in files]
        if missing:
            absent = listed([f"{name}.nii.gz" for name in missing], most=1)
            reason = f"{folders[image]} has no mask {absent}; add it, or choose other --structures"
            skipped.append(Skipped(image, f"{image}: {reason}"))
        else:
            of_values = tuple((value, files[name]) for value, name in structures)
            pairs.append(Pair(image.parent.name, image, folders[image], masks=of_values))
    if not pairs:
        raise ValueError(f"{data}: no case has all masks; {skipped[0].reason}")
    return Dataset(tuple(pairs), tuple(skipped), structures=structures)


def _facts(data: Path | None, images: Path, labels: Path) -> Facts:
    """What the data set's dataset.json says; of two folders named by options, that beside both."""
    if data is not None:
        return read_facts(data)
    above = images.resolve().parent
    return read_facts(above) if labels.resolve().parent == above else Facts()
