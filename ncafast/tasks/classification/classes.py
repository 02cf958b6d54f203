"""What a list of classes looks like to a person: a line that says what was found, and warnings about odd lists."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

_SHOWN, _LETTERS = 8, 24  # classes that are named, and how much of each name
_SEGMENTATION = {
    *("image", "images", "imagestr", "imagests", "img", "imgs", "mask", "masks", "label", "labels", "labelstr"),
    *("annotation", "annotations", "gt", "ground_truth", "groundtruth", "seg", "segmentation", "segmentations"),
}


def describe(classes: Sequence[str], labels: Iterable[str]) -> list[str]:
    """Lines on the classes of a data set: what was found, then warnings.

    Args:
        classes: their names, in order.
        labels: the class of every image that is used.
    """
    counts = Counter(labels)
    return [_found(classes, counts), *_warnings(classes, counts)]


def _found(classes: Sequence[str], counts: Counter[str]) -> str:
    shown = [f"{_short(name)} ({counts[name]})" for name in classes[:_SHOWN]]
    if len(classes) > _SHOWN:
        rest = [counts[name] for name in classes[_SHOWN:]]
        shown.append(f"and {len(rest)} more ({min(rest)} to {max(rest)} each)")
    count = "1 class" if len(classes) == 1 else f"{len(classes)} classes"
    return f"{count}, with images of each: {', '.join(shown)}"


def _warnings(classes: Sequence[str], counts: Counter[str]) -> list[str]:
    lines = []
    if len(classes) > 1 and all(name.strip().lower() in _SEGMENTATION for name in classes):
        lines.append(
            f"warning: the classes are called {' and '.join(map(_short, classes[:3]))}, like the folders of a data "
            "set for segmentation; for that see ncafast train segmentation"
        )
    few = [name for name in classes if 0 < counts[name] < 2]
    if few:
        names = ", ".join(map(_short, few[:_SHOWN])) + (" ..." if len(few) > _SHOWN else "")
        have = "1 class has" if len(few) == 1 else f"{len(few)} classes have"
        lines.append(f"warning: {have} fewer than two images: {names}")
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(_plain(name), []).append(name)
    for spellings in alike.values():
        if len(spellings) > 1:
            different = " and ".join(map(repr, spellings))
            lines.append(
                f"warning: {different} differ only in case or spaces, and are trained as {len(spellings)} classes"
            )
    return lines


def _plain(name: str) -> str:
    """The name without differences that people overlook: case, spaces, and how accents are stored."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").replace("-", " ").split())


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 3]}..."
