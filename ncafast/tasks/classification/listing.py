"""The image files below a folder. Links to folders are followed; hidden folders and those of archives are ignored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ncafast.tasks.classification.images import ENDINGS
from ncafast.tasks.image_hints import left_out
from ncafast.utils.progress import say

_IGNORED = ("__MACOSX",)  # beside the folders of an archive that was packed on a Mac


def list_images(folder: Path) -> list[Path]:
    """All image files in a folder and the folders inside it, sorted; hidden ones are ignored, and a note names the
    endings of files that may be images, too.

    Raises ValueError if the folder does not exist, holds none, or one inside it cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; give one that holds images")
    everything = sorted(_files(folder, frozenset()))
    files = [path for path in everything if path.suffix.lower() in ENDINGS]
    note = left_out(folder, everything, ENDINGS)
    if note:
        say(note)
    if not files:
        raise ValueError(f"{folder}: holds no image ({', '.join(ENDINGS)}); give the folder that holds them")
    return files


def folders_in(folder: Path) -> list[Path]:
    """The folders right inside a folder, sorted, without hidden ones."""
    return sorted(path for path in folder.iterdir() if not ignored(path.name) and path.is_dir())


def ignored(name: str) -> bool:
    """Whether a file or folder of this name is left out without a word."""
    return name.startswith(".") or name in _IGNORED


def _files(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Files at any depth. A link that leads back to a folder above it is left out: it would never end."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        inside = list(folder.iterdir())
    except OSError as error:
        raise ValueError(f"{folder}: cannot be read ({error.strerror}); change its permissions or move it") from error
    for path in inside:
        if ignored(path.name):
            continue
        if path.is_dir():
            yield from _files(path, above | {real})
        elif path.is_file():
            yield path
