"""A data set in any of the known layouts: its cases, what its dataset.json says of them, and what was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ncafast.tasks.mednca import structures
from ncafast.tasks.mednca.dataset_json import Facts, read_facts
from ncafast.tasks.mednca.modalities import ending, numbered
from ncafast.tasks.mednca.options import Suffix
from ncafast.tasks.mednca.pairs import Pair, Skipped, find_pairs, holds_nifti, resolve_folders


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
    data: Path | None,
    images: Path | None,
    labels: Path | None,
    *,
    suffix: Suffix = "auto",
    wanted: Sequence[str] = (),
    values: Sequence[int] = (),
    plain: bool = False,
) -> Dataset:
    """Find the cases of a data set.

    Args:
        data: folder of the data set, or None with the next two.
        images: folder of the images.
        labels: folder of the label maps.
        suffix: what an ending such as _0001 means, see `find_pairs`.
        wanted: structures to take, where every one has a mask; none takes all.
        values: label values that they get; none counts them from 1.
        plain: leave dataset.json and higher modalities aside, as earlier versions did.

    Raises:
        ValueError: the options contradict each other, or nothing can be used; one line that says what to do.
    """
    image_folder, label_folder = resolve_folders(data, images, labels)
    if data is not None and image_folder == data and not plain and structures.is_layout(data) and not holds_nifti(data):
        names = structures.choose(data, wanted)
        table = dict(zip(names, values or range(1, len(names) + 1), strict=True))
        pairs, skipped = structures.find_masks(data, table)
        return Dataset(tuple(pairs), tuple(skipped), structures=tuple((value, name) for name, value in table.items()))
    if wanted and not values:
        raise ValueError(
            f"--structures {' '.join(wanted)}: {image_folder} does not hold a folder per case with "
            f"{structures.MASKS}/ inside; choose label values with --classes"
        )
    if plain:
        return Dataset(*map(tuple, find_pairs(image_folder, label_folder, suffix="name")))  # type: ignore[arg-type]
    facts = _facts(data, image_folder, label_folder)
    pairs, skipped = find_pairs(image_folder, label_folder, modalities=len(facts.channels), suffix=suffix)
    return Dataset(tuple(pairs), tuple(skipped), facts)


def _facts(data: Path | None, images: Path, labels: Path) -> Facts:
    """What the data set's dataset.json says; of two folders named by options, that beside both."""
    if data is not None:
        return read_facts(data)
    above = images.resolve().parent
    return read_facts(above) if labels.resolve().parent == above else Facts()
