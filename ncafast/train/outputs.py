"""Whether a result can be written, looked at before any work is done."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def check_folder(option: str, folder: Path) -> None:
    """Raise ValueError, naming the option, unless files can be made in the folder. Leaves nothing behind."""
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"{option} {folder}: {place} is not a folder; give a folder that is or can be made")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"{option} {folder}: no permission to write in {place}; give another folder")
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".ncafast-", dir=place))  # a file system may refuse what permissions allow
    except OSError as error:
        raise ValueError(
            f"{option} {folder}: nothing can be made in {place} ({error.strerror}); give another folder"
        ) from None


def check_apart(option: str, folder: Path, source: str, data: Path | None) -> None:
    """Raise ValueError, naming the options, if a folder lies in one whose images are read at any depth, or is that one.

    The pictures that are written would be read as images the next time.
    """
    if data is not None and data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise ValueError(
            f"{option} {folder}: lies in {source} {data}, so its pictures would be taken for images there; give a "
            "folder outside it"
        )
