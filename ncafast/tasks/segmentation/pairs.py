"""Which mask belongs to which image: folders of the same file names, names with endings, or a CSV list."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ncafast.tasks.csv_lists import FILE_COLUMNS, column, part_in, read_rows
from ncafast.tasks.image_files import ENDINGS, list_images
from ncafast.tasks.segmentation.options import EvaluateConfig, TrainConfig

_IMAGES = ("images", "image", "imgs", "img", "imagesTr", "JPEGImages")
_MASKS = ("masks", "mask", "labels", "label", "labelsTr", "annotations", "gt", "SegmentationClass")
_IMAGE_ENDING = re.compile(r"[_-](image|img)$", re.IGNORECASE)
_MASK_ENDING = re.compile(r"[_-](mask|masks|label|labels|seg|segmentation|gt)$", re.IGNORECASE)
_MASK_COLUMNS = ("mask", "masks", "label", "segmentation", "annotation")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask, under a name of their own."""

    name: str
    image: Path
    mask: Path
    part: str = ""
    """train, val or test where a CSV list says so."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """A data set, and one line for each file of it that was left out."""

    pairs: tuple[Pair, ...]
    skipped: tuple[str, ...] = ()


def find_pairs(options: TrainConfig | EvaluateConfig) -> Pairs:
    """The pairs of the data set that options name. No file is read but a CSV list.

    Raises:
        ValueError: the options contradict each other, or nothing can be used; one line that says what to do.
    """
    data, images, masks = options.data, options.images, options.masks
    if (images is None) != (masks is None):
        raise ValueError(f"--images and --masks belong together; --{'masks' if masks is None else 'images'} is missing")
    if (data is None) == (images is None):
        raise ValueError("give either --data, or --images and --masks" + (", not both" if data is not None else ""))
    if data is None:
        assert images is not None and masks is not None
        return _from_folders(images, masks)
    if data.is_dir():
        found = [next((data / name for name in names if (data / name).is_dir()), None) for names in (_IMAGES, _MASKS)]
        if found[0] is not None and found[1] is not None:
            return _from_folders(found[0], found[1])
        return _from_names(data)
    if not data.exists():
        raise ValueError(f"{data}: does not exist; give a folder with images/ and masks/, or a CSV list")
    if data.suffix.lower() != ".csv":
        raise ValueError(f"{data}: is no folder and no CSV list; give one of these")
    return _from_csv(data)


def _from_folders(images: Path, masks: Path) -> Pairs:
    """Files of the same place and name in two folders, without endings such as .png or _mask."""
    for option, folder in (("--images", images), ("--masks", masks)):
        if not folder.is_dir():
            raise ValueError(f"{option} {folder}: is no folder; give one that holds them")
    return _matched(
        ((_name(path.relative_to(images), _IMAGE_ENDING), path) for path in list_images(images, ENDINGS)),
        ((_name(path.relative_to(masks), _MASK_ENDING), path) for path in list_images(masks, ENDINGS)),
        f"{images} and {masks}: no mask has the name of an image; call the mask of a.jpg a.png or a_mask.png",
    )


def _from_names(folder: Path) -> Pairs:
    """Masks are known by endings of their names."""
    paths = list_images(folder, ENDINGS)
    masks = [path for path in paths if _MASK_ENDING.search(path.stem)]
    others = sorted(set(paths) - set(masks))
    return _matched(
        ((_name(path.relative_to(folder), _IMAGE_ENDING), path) for path in others),
        ((_name(path.relative_to(folder), _MASK_ENDING), path) for path in masks),
        f"{folder}: holds {len(others)} images and {len(masks)} masks, and no pair of these; put them into images/ and "
        "masks/ under the same names, or call them a.jpg and a_mask.png",
    )


def _name(path: Path, ending: re.Pattern[str]) -> str:
    return str(path.with_name(ending.sub("", path.stem)))


def _matched(images: Iterable[tuple[str, Path]], masks: Iterable[tuple[str, Path]], nothing: str) -> Pairs:
    """Pairs of one image and one mask under a name; a line for every other file."""
    sides: tuple[defaultdict[str, list[Path]], ...] = (defaultdict(list), defaultdict(list))
    for side, files in zip(sides, (images, masks), strict=True):
        for name, path in files:
            side[name].append(path)
    pairs, skipped = [], []
    for shared in sorted(sides[0].keys() | sides[1].keys()):
        ours, theirs = (side.get(shared, []) for side in sides)
        if len(ours) == len(theirs) == 1:
            pairs.append(Pair(shared, ours[0], theirs[0]))
        elif not ours or not theirs:
            lacks = "is a mask without an image" if theirs else "has no mask"
            skipped += [f"{path}: {lacks} of the same name; add it or take this away" for path in (*ours, *theirs)]
        else:
            several = ", ".join(path.name for path in (*ours, *theirs))
            skipped.append(f"{(*ours, *theirs)[0]}: several files share one name ({several}); keep two")
    if not pairs:
        raise ValueError(nothing)
    return Pairs(tuple(pairs), tuple(skipped))


def _from_csv(path: Path) -> Pairs:
    """Lines with an image and its mask, relative to the list's folder."""
    rows = read_rows(path)
    columns = column(path, rows, FILE_COLUMNS), column(path, rows, _MASK_COLUMNS)
    pairs: dict[str, Pair] = {}
    skipped = []
    for number, row in enumerate(rows, start=2):
        image, mask = ((row.get(name) or "").strip() for name in columns)
        if not image or not mask:
            skipped.append(f"{path}, line {number}: has no {columns[1] if image else columns[0]}; fill it in")
            continue
        pair = Pair(image, path.parent / image, path.parent / mask, part_in(path, number, row))
        if pairs.setdefault(image, pair) != pair:
            raise ValueError(f"{path}, line {number}: {image} has another mask or split above; keep one")
    if not pairs:
        raise ValueError(f"{path}: names no pair; give lines with an image and its mask")
    return Pairs(tuple(pairs.values()), tuple(skipped))
