"""Why a path is not what a command needs: nothing is there, a device, a link to nothing. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path


def why_missing(path: Path) -> str:
    """What is at a path that is no file, as a sentence."""
    text = missing(path)
    return f"it {text}" if text.startswith("is ") else text


def missing(path: Path, wanted: str = "file") -> str:
    """What is at a path that is no `wanted`, such as "file" or "file or folder", as the end of a sentence."""
    if not os.path.lexists(path):
        return f"there is no such {wanted}"
    if not path.exists():
        return f"is a link to {os.readlink(path)}, which does not exist"
    if path.is_dir():
        return "is a folder"
    return "is a file" if path.is_file() else "is a device or a pipe, not a regular file"
