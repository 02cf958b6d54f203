"""Which folders of a data set are classes, and which are parts: DATA/CLASS, or DATA/train/CLASS and DATA/val/CLASS.

One folder around all of that is looked through. Any other depth is refused, since there the names of sites, scanners or
years would be learned as classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ncafast.tasks.classification.items import Item, Source, parts_note
from ncafast.tasks.csv_lists import PART_NAMES, part_of
from ncafast.tasks.image_files import ENDINGS, folders_in, list_images

_REMEDY = (
    "classes are the folders right inside the data folder, or inside train, val and test there; give the folder that "
    "holds them, move the images up, or name files and classes in a .csv list"
)


def from_folders(folder: Path) -> Source:
    """The images of a folder, whose classes are folders.

    Raises:
        ValueError: no class folder, parts beside other folders, or images nested deeper; one line with an example.
    """
    level, notes = _Level(folder, list_images(folder, ENDINGS)), []
    skipped = _left_out(level)
    (top, *others) = level.inside or [""]
    if not others and not part_of(top) and level.nested(top) == level.inside.get(top):
        level = _Level(folder / top, level.inside[top])
        skipped += _left_out(level)
        notes.append(f"{level.base} is the only folder in {folder} with images; its folders are taken")
    parts = [top for top in level.inside if part_of(top) and level.nested(top)]
    if parts:
        skipped += _unlabelled(level, parts)
    _check_parts(level, parts)
    items: list[Item] = []
    for top in parts or [""]:
        classes = _Level(level.base / top, level.inside[top]) if top else level
        skipped += _left_out(classes) if top else []
        notes += _nested(classes)
        for label, paths in classes.inside.items():
            items += [Item(str(path.relative_to(folder)), label, path, part_of(top) or "") for path in paths]
    if parts:
        notes.append(parts_note(level.base, sorted(parts), [item.part for item in items]))
    if not items:
        raise ValueError(f"{folder}: has no folder with images; make one per class, or give --naming matek19")
    items.sort(key=lambda item: folder / item.name)
    # A class that only test images have is none that a model can learn, such as a folder test/unknown.
    learned = {item.label for item in items if item.part != "test"} or {item.label for item in items}
    strange = sorted({item.label for item in items} - learned)
    if strange:
        notes.append(f"{', '.join(strange[:8])} in {folder} have only test images, so they are no classes to learn")
    return Source(tuple(items), tuple(sorted(learned)), tuple(skipped), tuple(notes))


class _Level:
    """The images in a folder: those right inside it, and the others by the next folder on their path."""

    def __init__(self, base: Path, paths: Iterable[Path]) -> None:
        self.base = base
        self.loose: list[Path] = []
        self.inside: dict[str, list[Path]] = {}
        for path in paths:
            top, *rest = path.relative_to(base).parts
            (self.inside.setdefault(top, []) if rest else self.loose).append(path)

    def nested(self, top: str) -> list[Path]:
        """The images in folders inside one of its folders."""
        return [path for path in self.inside.get(top, ()) if path.parent != self.base / top]


def _unlabelled(level: _Level, parts: list[str]) -> list[str]:
    """Take test images without class folders, as competitions have them, out of a level; a line for each folder."""
    tops = [top for top in level.inside if top not in parts and part_of(top) == "test"]
    remedy = "make one folder per class in it to score them"
    return [
        f"{level.base / top}: its {len(level.inside.pop(top))} images lie in no class folder; {remedy}" for top in tops
    ]


def _check_parts(level: _Level, parts: list[str]) -> None:
    """Raise ValueError where it cannot be known whether folders are parts or classes."""
    others = sorted(set(level.inside) - set(parts))
    if parts and others:
        raise ValueError(
            f"{level.base}: holds the parts {', '.join(sorted(parts))} with class folders, and beside them {others[0]} "
            f"({level.inside[others[0]][0]}); move that away, or into a class of a part ({PART_NAMES})"
        )
    if len(others) > 1 and all(map(part_of, others)):
        raise ValueError(
            f"{level.base}: its folders {', '.join(others)} are parts, and hold images outside any class folder "
            f"({level.inside[others[0]][0]}); make one folder per class in each of them, or name files and classes "
            "in a .csv list"
        )


def _left_out(level: _Level) -> list[str]:
    """Images beside the folders, and folders without images, each in a line."""
    beside = "lies beside the class folders, not in one; move it into its class's folder"
    empty = [path for path in folders_in(level.base) if path.name not in level.inside]
    lines = [f"{path}: {beside}" for path in level.loose]
    return lines + [f"{path}: holds no image, so it is not a class" for path in empty]


def _nested(level: _Level) -> list[str]:
    """A note on folders inside class folders. Raises ValueError where a class folder holds nothing but folders."""
    deeper = []
    for top, paths in level.inside.items():
        nested = level.nested(top)
        if nested == paths:
            raise ValueError(
                f"{level.base / top}: holds folders and no image of its own ({nested[0]} first); {_REMEDY}"
            )
        deeper += [(path, top) for path in nested]
    if not deeper:
        return []
    path, label = deeper[0]
    return [f"{len(deeper)} images lie in folders inside class folders; {path} counts as {label!r}"]
