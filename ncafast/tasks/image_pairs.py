"""Which mask or other target belongs to which image: folders of the same names, names with endings, or a CSV list."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncafast.tasks.csv_lists import FILE_COLUMNS, column, part_in, read_rows
from ncafast.tasks.image_files import ENDINGS, list_images
from ncafast.train.split_files import split
from ncafast.utils.progress import note

_IMAGES = ("images", "image", "imgs", "img", "rgb", "imagesTr", "JPEGImages")
_IMAGE_ENDING = re.compile(r"[_-](image|img|rgb|color|colour)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Targets:
    """What the files are called that say what an image is to become."""

    thing: str
    """mask, in messages."""
    option: str
    """masks, the option and the folder that messages name."""
    folders: tuple[str, ...]
    """Names of folders of them, beside one of images."""
    ending: re.Pattern[str]
    """At the end of their names, where they lie beside the images."""
    columns: tuple[str, ...]
    """Of a CSV list."""
    kinds: tuple[str, ...] = ENDINGS
    """Endings of the files, such as .png."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its target, under a name of their own."""

    name: str
    image: Path
    target: Path
    part: str = ""
    """train, val or test where a CSV list says so."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """A data set, and one line for each file of it that was left out."""

    pairs: tuple[Pair, ...]
    skipped: tuple[str, ...] = ()


def find_pairs(data: Path | None, images: Path | None, targets: Path | None, kind: Targets) -> Pairs:
    """The pairs of the data set that options name. No file is read but a CSV list.

    Args:
        data: --data.
        images: --images.
        targets: the option for targets.
        kind: what the targets are called.

    Raises:
        ValueError: the options contradict each other, or nothing can be used; one line that says what to do.
    """
    both = f"--images and --{kind.option}"
    if (images is None) != (targets is None):
        missing = kind.option if targets is None else "images"
        raise ValueError(f"{both} belong together; --{missing} is missing")
    if (data is None) == (images is None):
        raise ValueError(f"give either --data, or {both}" + (", not both" if data is not None else ""))
    if data is None:
        assert images is not None and targets is not None
        return _from_folders(images, targets, kind)
    if data.is_dir():
        found = [
            next((data / name for name in names if (data / name).is_dir()), None) for names in (_IMAGES, kind.folders)
        ]
        if found[0] is not None and found[1] is not None:
            return _from_folders(found[0], found[1], kind)
        return _from_names(data, kind)
    if not data.exists():
        raise ValueError(f"{data}: does not exist; give a folder with images/ and {kind.option}/, or a CSV list")
    if data.suffix.lower() != ".csv":
        raise ValueError(f"{data}: is no folder and no CSV list; give one of these")
    return _from_csv(data, kind)


def trainable(found: Pairs, data: Path | None) -> list[str]:
    """The names of all images that folds may be drawn from: all but test images."""
    pairs = [pair for pair in found.pairs if pair.part != "test"]
    if any(pair.part == "val" for pair in pairs):
        note(f"{data} says itself what to hold out; the folds are drawn from its train and val images")
    return [pair.name for pair in pairs]


def divide(config: Any, names: Sequence[str], val: set[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Names to train on and names held out: those that are called val, where no list says otherwise.

    Args:
        config: options of a training with data, val_fraction, seed, train_list and val_list.
        names: of all images that can be used.
        val: of those that a CSV list calls val.

    Raises:
        ValueError: nothing is left to train on, or a list does not fit the names.
    """
    lists = config.train_list, config.val_list
    if not val or lists != (None, None):
        return split(sorted(names), "images", config.val_fraction, config.seed, *lists)
    train = sorted(set(names) - val)
    if not train:
        raise ValueError(f"{config.data}: calls all of its images val or test; give some to train on")
    return train, sorted(val.intersection(names))


def _from_folders(images: Path, targets: Path, kind: Targets) -> Pairs:
    """Files of the same place and name in two folders, without endings such as .png or _mask."""
    for option, folder in (("images", images), (kind.option, targets)):
        if not folder.is_dir():
            raise ValueError(f"--{option} {folder}: is no folder; give one that holds them")
    return _matched(
        ((_name(path.relative_to(images), _IMAGE_ENDING), path) for path in list_images(images, ENDINGS)),
        ((_name(path.relative_to(targets), kind.ending), path) for path in list_images(targets, kind.kinds)),
        f"{images} and {targets}: no {kind.thing} has the name of an image; call the {kind.thing} of a.jpg a.png or "
        f"a_{kind.thing}.png",
        kind,
    )


def _from_names(folder: Path, kind: Targets) -> Pairs:
    """Targets are known by endings of their names."""
    paths = list_images(folder, tuple(dict.fromkeys((*ENDINGS, *kind.kinds))))
    targets = [path for path in paths if kind.ending.search(path.stem) and path.suffix.lower() in kind.kinds]
    others = sorted(path for path in set(paths) - set(targets) if path.suffix.lower() in ENDINGS)
    return _matched(
        ((_name(path.relative_to(folder), _IMAGE_ENDING), path) for path in others),
        ((_name(path.relative_to(folder), kind.ending), path) for path in targets),
        f"{folder}: holds {len(others)} images and {len(targets)} {kind.thing}s, and no pair of these; put them into "
        f"images/ and {kind.option}/ under the same names, or call them a.jpg and a_{kind.thing}.png",
        kind,
    )


def _name(path: Path, ending: re.Pattern[str]) -> str:
    return str(path.with_name(ending.sub("", path.stem)))


def _matched(
    images: Iterable[tuple[str, Path]], targets: Iterable[tuple[str, Path]], nothing: str, kind: Targets
) -> Pairs:
    """Pairs of one image and one target under a name; a line for every other file."""
    sides: tuple[defaultdict[str, list[Path]], ...] = (defaultdict(list), defaultdict(list))
    for side, files in zip(sides, (images, targets), strict=True):
        for name, path in files:
            side[name].append(path)
    pairs, skipped = [], []
    for shared in sorted(sides[0].keys() | sides[1].keys()):
        ours, theirs = (side.get(shared, []) for side in sides)
        if len(ours) == len(theirs) == 1:
            pairs.append(Pair(shared, ours[0], theirs[0]))
        elif not ours or not theirs:
            lacks = f"is a {kind.thing} without an image" if theirs else f"has no {kind.thing}"
            skipped += [f"{path}: {lacks} of the same name; add it or take this away" for path in (*ours, *theirs)]
        else:
            several = ", ".join(path.name for path in (*ours, *theirs))
            skipped.append(f"{(*ours, *theirs)[0]}: several files share one name ({several}); keep two")
    if not pairs:
        raise ValueError(nothing)
    return Pairs(tuple(pairs), tuple(skipped))


def _from_csv(path: Path, kind: Targets) -> Pairs:
    """Lines with an image and its target, relative to the list's folder."""
    rows = read_rows(path)
    columns = column(path, rows, FILE_COLUMNS), column(path, rows, kind.columns)
    pairs: dict[str, Pair] = {}
    skipped = []
    for number, row in enumerate(rows, start=2):
        image, target = ((row.get(name) or "").strip() for name in columns)
        if not image or not target:
            skipped.append(f"{path}, line {number}: has no {columns[1] if image else columns[0]}; fill it in")
            continue
        pair = Pair(image, path.parent / image, path.parent / target, part_in(path, number, row))
        if pairs.setdefault(image, pair) != pair:
            raise ValueError(f"{path}, line {number}: {image} has another {kind.thing} or split above; keep one")
    if not pairs:
        raise ValueError(f"{path}: names no pair; give lines with an image and its {kind.thing}")
    return Pairs(tuple(pairs.values()), tuple(skipped))
