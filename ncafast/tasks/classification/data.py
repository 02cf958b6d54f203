"""From items to pixels in memory, divided into training and held-out images."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ncafast.tasks.classification.classes import describe
from ncafast.tasks.classification.images import read_image, resize_all
from ncafast.tasks.classification.items import Item, Source
from ncafast.tasks.classification.options import TrainConfig
from ncafast.tasks.classification.sources import open_source
from ncafast.tasks.images import ImageError, Reading
from ncafast.train.split_files import held_out_by_chance, split_by_lists
from ncafast.utils.progress import Bar, note, say


@dataclass(frozen=True, slots=True)
class Images:
    """Images in memory, with their names and class numbers."""

    names: tuple[str, ...]
    pixels: Tensor  # [N, size, size, 3] uint8
    labels: Tensor  # [N] int64

    def __len__(self) -> int:
        return len(self.names)

    def blank(self) -> list[str]:
        """Names of those that are of one colour."""
        same = (self.pixels == self.pixels[:, :1, :1]).flatten(1).all(1)  # [N]
        return [name for name, found in zip(self.names, same.tolist(), strict=True) if found]

    def checksums(self) -> dict[str, int]:
        """Of every image with its label, by name."""
        rows = zip(self.names, self.pixels.numpy(), self.labels.tolist(), strict=True)
        return {name: zlib.crc32(image.tobytes(), label) for name, image, label in rows}


@dataclass(frozen=True, slots=True)
class Sides:
    """What a run learns from and what it is measured on."""

    train: Images
    held_out: Images
    classes: tuple[str, ...]
    skipped: tuple[str, ...]


def load_sides(config: TrainConfig, reading: Reading | None = None) -> Sides:
    """Read all images and divide them: as the source says, by lists, by --val-data, or at random within each class.

    Args:
        config: the options of the training.
        reading: how images are read; by default as the options say.

    Raises ValueError if nothing is left to train on, or fewer than two classes are.
    """
    source = open_source(config.data, config.naming)
    skipped, notes = list(source.skipped), list(source.notes)
    sides = _divide(config, source, skipped, notes)
    used = [item.label for side in sides for item in side]
    note(*notes)
    for line in describe(source.classes, used):
        say(line)
    reading = reading or Reading.of(config)
    (train, bad), (held_out, worse) = (
        read_items(side, source.classes, config.size, config.progress, reading) for side in sides
    )
    reading.notes.say()
    skipped += [*bad, *worse]
    for reason in skipped:
        say(f"skipped: {reason}")
    _check(config, train, source)
    for side, what in (
        (train, "training image and cannot be learnt"),
        (held_out, "held-out image and are not measured"),
    ):
        present = set(side.labels.tolist())
        absent = [name for k, name in enumerate(source.classes) if k not in present]
        if absent and len(side):
            number = f"{len(absent)} of {len(source.classes)} classes"
            note(f"{number} have no {what}: {', '.join(absent[:8])}")
    blank = train.blank()
    if blank:
        note(f"{len(blank)} of {len(train)} images are of one colour, {blank[0]} first; are these files right?")
    return Sides(train, held_out, source.classes, tuple(skipped))


def _divide(config: TrainConfig, source: Source, skipped: list[str], notes: list[str]) -> tuple[list[Item], list[Item]]:
    """Items to train on and items held out; adds lines to `skipped` and `notes`."""
    known = {item.part for item in source.items}
    if config.train_list is not None or config.val_list is not None:
        if config.val_data is not None:
            raise ValueError("give either --val-data, or --train-list and --val-list, not both")
        items = _but(source.items, "test")
        names = split_by_lists([item.name for item in items], config.train_list, config.val_list, "images")
        train, held_out = ([item for item in items if item.name in side] for side in names)
        return train, held_out
    if config.val_data is not None:
        other = open_source(config.val_data, config.naming)
        unknown = sorted({item.label for item in other.items} - set(source.classes))
        if unknown:
            raise ValueError(
                f"{config.val_data}: has the class {unknown[0]!r}, which {config.data} has not; "
                f"that one has {', '.join(source.classes[:8])}"
            )
        skipped += other.skipped
        notes += other.notes
        if "val" in known:
            notes.append(f"the images that {config.data} holds out are left out; --val-data takes their place")
        # Images held out elsewhere may have the same names.
        held_out = [replace(item, name=f"val/{item.name}", part="val") for item in _but(other.items, "train")]
        return _but(source.items, "val", "test"), held_out
    if "val" in known:
        return _but(source.items, "val", "test"), [item for item in source.items if item.part == "val"]
    return split_items(_but(source.items, "test"), config.val_fraction, config.seed)


def split_items(items: Sequence[Item], fraction: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Hold out the same part of every class: those whose number from (seed, name) is smallest."""
    held: set[str] = set()
    for label in {item.label for item in items}:
        held |= held_out_by_chance([item.name for item in items if item.label == label], fraction, seed)
    return [item for item in items if item.name not in held], [item for item in items if item.name in held]


def read_items(
    items: Sequence[Item],
    classes: Sequence[str],
    size: int,
    progress: bool = False,
    reading: Reading | None = None,
) -> tuple[Images, list[str]]:
    """The images that can be read, and one line for each that cannot."""
    number = {name: k for k, name in enumerate(classes)}
    names, pixels, labels, skipped = [], [], [], []
    from_files = any(isinstance(item.source, Path) for item in items)
    with Bar(len(items), progress and from_files, "reading images") as bar:
        for item in items:
            bar.advance({})
            try:
                if isinstance(item.source, Path):
                    image = read_image(item.source, size, reading)
                else:
                    image = resize_all(item.source[None], size)[0]
            except ImageError as error:
                skipped.append(str(error))
                continue
            names.append(item.name)
            pixels.append(image)
            labels.append(number[item.label])
    stacked = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
    return Images(tuple(names), torch.from_numpy(stacked), torch.tensor(labels, dtype=torch.int64)), skipped


def _but(items: Sequence[Item], *parts: str) -> list[Item]:
    return [item for item in items if item.part not in parts]


def _check(config: TrainConfig, train: Images, source: Source) -> None:
    if not len(train):
        raise ValueError(f"{config.data}: none of its {len(source.items)} images can be used; see the lines above")
    counts = Counter(train.labels.tolist())
    if len(counts) < 2:
        only = source.classes[next(iter(counts))]
        raise ValueError(
            f"{config.data}: all training images are of the class {only!r}; two classes at least are needed"
        )
    twice = [name for name, count in Counter(train.names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{config.data}: has several images named {twice[0]!r}; rename them, so that a split can be kept"
        )
