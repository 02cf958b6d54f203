"""Where labelled images come from: class folders, the Matek-19 naming scheme, CSV lists, MedMNIST's .npz files."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ncafast.tasks.classification.folders import from_folders
from ncafast.tasks.classification.items import Array, Item, Source, parts_note
from ncafast.tasks.classification.options import Naming
from ncafast.tasks.csv_lists import FILE_COLUMNS, column, part_in, part_of, read_rows
from ncafast.tasks.image_files import ENDINGS, list_images

# The notebook's 13 classes in its order, and the code in the file's name that stands for each.
MATEK_CLASSES = (
    "basophil", "eosinophil", "erythroblast", "myeloblast", "promyelocyte", "myelocyte", "metamyelocyte",
    "neutrophil_banded", "neutrophil_segmented", "monocyte", "lymphocyte_typical", "lymphocyte_atypical", "smudge_cell",
)  # fmt: skip
MATEK_CODES = {
    "BAS": 0, "EOS": 1, "EBO": 2, "MYO": 3, "PMB": 4, "PMO": 4, "MYB": 5, "MMZ": 6, "NGB": 7, "NGS": 8, "MOB": 9,
    "MON": 9, "LYT": 10, "LYA": 11, "KSC": 12,
}  # fmt: skip

_LABEL_COLUMNS = ("label", "class", "target")


def open_source(data: Path | None, naming: Naming = "folders") -> Source:
    """The items of a folder, a .csv or an .npz file. Image files are not read yet.

    Raises ValueError, one line that names the file, if there is nothing to use.
    """
    if data is None:
        raise ValueError("no data given: give --data with a folder, a .csv or an .npz file")
    if data.is_dir():
        return _from_names(data) if naming == "matek19" else from_folders(data)
    if not data.exists():
        raise ValueError(f"{data}: does not exist; give a folder with one folder per class, a .csv or an .npz file")
    if data.suffix.lower() == ".csv":
        return _from_csv(data)
    if data.suffix.lower() == ".npz":
        return _from_npz(data)
    raise ValueError(f"{data}: is no folder, .csv or .npz file; give one of these")


def _from_names(folder: Path) -> Source:
    items, skipped = [], []
    for path in list_images(folder, ENDINGS):
        code = next((code for code in MATEK_CODES if code in path.name), None)
        if code is None:
            skipped.append(
                f"{path}: its name has none of the codes {', '.join(MATEK_CODES)}; rename it or leave it out"
            )
        else:
            inside = path.relative_to(folder)
            part = part_of(inside.parts[0]) if len(inside.parts) > 1 else None
            items.append(Item(str(inside), MATEK_CLASSES[MATEK_CODES[code]], path, part or ""))
    if not items:
        raise ValueError(f"{folder}: no file name has a code such as BAS or EBO; leave --naming matek19 out")
    parts = tuple(sorted({Path(item.name).parts[0] for item in items if item.part}))
    notes = (parts_note(folder, parts, [item.part for item in items]),) if parts else ()
    return Source(tuple(items), MATEK_CLASSES, tuple(skipped), notes)


def _from_csv(path: Path) -> Source:
    rows = read_rows(path)
    file_column, label_column = (column(path, rows, known) for known in (FILE_COLUMNS, _LABEL_COLUMNS))
    items: dict[str, Item] = {}
    skipped = []
    for number, row in enumerate(rows, start=2):
        name, label = (row.get(file_column) or "").strip(), (row.get(label_column) or "").strip()
        if not name or not label:
            skipped.append(f"{path}, line {number}: has no {file_column if not name else label_column}; fill it in")
        elif name in items and items[name].label != label:
            raise ValueError(f"{path}, line {number}: {name} is {label!r} here, {items[name].label!r} above; keep one")
        else:
            items[name] = Item(name, label, path.parent / name, part_in(path, number, row))
    if not items:
        raise ValueError(f"{path}: names no image; give lines with a file and its label")
    classes = sorted({item.label for item in items.values()}, key=_natural)
    return Source(tuple(items.values()), tuple(classes), tuple(skipped))


def _from_npz(path: Path) -> Source:
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        what = " ".join(str(error).split())[:120]
        raise ValueError(f"{path}: is no readable .npz file of plain arrays ({what}); copy it anew") from error
    parts = _parts(path, content)
    if not parts:
        have = ", ".join(list(content)[:6]) or "nothing"
        raise ValueError(f"{path}: holds {have}; train_images and train_labels are needed, as in MedMNIST")
    labels = {part: _labels(path, part, content) for part in parts}
    count = 1 + max((int(array.max()) for array in labels.values() if array.size), default=0)
    named = content.get("classes")
    images = sum(map(len, labels.values()))
    if named is None and count > max(images, 2):
        raise ValueError(
            f"{path}: holds the label {count - 1}, but only {images} images; number the classes from 0 without gaps"
        )
    classes = tuple(map(str, range(count) if named is None else named.tolist()))
    if count > len(classes):
        raise ValueError(f"{path}: a label is {count - 1}, but classes names only {len(classes)}; correct one of them")
    items = []
    for part in parts:
        pixels = _pixels(path, part, content)
        given = [str(name) for name in content.get(f"{part}_files", [])]
        names = given if len(given) == len(pixels) else [f"{part}_{number:06}" for number in range(len(pixels))]
        pairs = zip(names, labels[part], pixels, strict=True)
        items += [Item(name, classes[int(label)], image, part_of(part) or "") for name, label, image in pairs]
    if not items:
        raise ValueError(f"{path}: holds no image; give a file with some")
    return Source(tuple(items), classes)


def _parts(path: Path, content: dict[str, Any]) -> list[str]:
    """The words before _images, training images first. Raises ValueError for two that mean the same part."""
    parts = {name.removesuffix("_images"): part_of(name.removesuffix("_images")) for name in content}
    known = [word for word in parts if f"{word}_images" in content and parts[word] is not None]
    for word in known:
        other = next(candidate for candidate in known if parts[candidate] == parts[word])
        if other != word:
            raise ValueError(f"{path}: has {other}_images and {word}_images, which are the same part; keep one")
    return sorted(known, key=lambda word: ("train", "val", "test").index(parts[word] or ""))


def _labels(path: Path, part: str, content: dict[str, Any]) -> Array:
    """[N] whole numbers from 0; MedMNIST's have a second axis of size 1."""
    images, labels = content[f"{part}_images"], content.get(f"{part}_labels")
    if labels is None:
        raise ValueError(f"{path}: has {part}_images without {part}_labels; both are needed")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != len(images):
        raise ValueError(
            f"{path}: {part}_labels has shape {list(labels.shape)} for {len(images)} images; "
            "one whole number per image is needed (several labels per image are not supported)"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: {part}_labels are {labels.dtype}; whole numbers from 0 are needed")
    if labels.size and labels.min() < 0:
        raise ValueError(
            f"{path}: {part}_labels holds the label {labels.min()}; labels count from 0, so leave images without a "
            "class out"
        )
    return labels


def _pixels(path: Path, part: str, content: dict[str, Any]) -> Array:
    """[N, H, W, 3] uint8, from uint8 or from floats between 0 and 1, grey or RGB."""
    images = content[f"{part}_images"]
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"{path}: {part}_images has shape {list(images.shape)}; [N, H, W] or [N, H, W, 3] is needed")
    if images.dtype.kind == "f":
        if not np.isfinite(images).all():
            raise ValueError(f"{path}: {part}_images holds NaN or infinite values; repair the file")
        if images.size and (images.min() < 0 or images.max() > 1):
            raise ValueError(f"{path}: {part}_images holds values outside 0 to 1; scale them, or store uint8")
        images = (images * 255).round().astype(np.uint8)
    if images.dtype != np.uint8:
        raise ValueError(f"{path}: {part}_images is {images.dtype}; uint8, or floats from 0 to 1, are needed")
    return np.ascontiguousarray(np.broadcast_to(images, (*images.shape[:3], 3)))


def _natural(label: str) -> tuple[Any, ...]:
    """10 after 9, not after 1."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", label))
