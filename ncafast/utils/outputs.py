"""Where a result goes, and whether it can be written there, looked at before any work is done."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ncafast.files import replacing
from ncafast.utils.stamps import stamp, stamped

BESIDE = "<model>"
"""First part of a path that stands for the place of the model; see `beside`."""


def beside(output: Path, model: Path) -> Path:
    """The path with the model's place for `<model>`; other paths as they are.

    `<model>/evaluation` is RUN/evaluation for the folder RUN of a training, and DIR/best-evaluation for a checkpoint
    DIR/best.safetensors. Where that exists, it gets a number from 2 on, so that no result takes another one's place.
    """
    if not (isinstance(output, Path) and isinstance(model, Path)) or output.parts[:1] != (BESIDE,):
        return output  # what is no path is refused later, with the other options
    name = Path(*output.parts[1:])
    wanted = model / name if model.is_dir() else model.with_name(f"{model.stem}-{name}")
    found, number = wanted, 1
    while os.path.lexists(found):
        number += 1
        found = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    return found


def check_free(option: str, files: Iterable[Path], overwrite: bool) -> None:
    """Raise ValueError, naming the first file and the option, if writing would replace what ncafast did not write.

    Args:
        option: that says where the files go.
        files: that will be written.
        overwrite: whether --overwrite was given; what is no file, or is read-only, is refused all the same.
    """
    for path in files:
        if not os.path.lexists(path):
            continue
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            raise ValueError(f"{option}: {path} is a folder where a file is to be written; give another {option}")
        if not stat.S_ISLNK(mode) and not stat.S_ISREG(mode):
            raise ValueError(f"{option}: {path} is not a regular file; give another {option}")
        if stat.S_ISREG(mode) and not mode & 0o222:
            raise ValueError(f"{option}: {path} exists and is read-only; make it writable or give another {option}")
        if not overwrite and (stat.S_ISLNK(mode) or not _known(path)):
            what = "is a symbolic link" if stat.S_ISLNK(mode) else "was not written by ncafast, or changed since"
            raise ValueError(f"{option}: {path} exists and {what}; give another {option}, or --overwrite to replace it")


def _known(path: Path) -> bool:
    try:
        return stamped(path)
    except OSError:
        return False


def check_folder(option: str, folder: Path) -> None:
    """Raise ValueError, naming the option, unless files can be made in the folder. Leaves nothing behind."""
    existing = folder
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise ValueError(f"{option} {folder}: {existing} is not a folder; give a folder that is or can be made")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{option} {folder}: no permission to write in {existing}; give another folder")
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".ncafast-", dir=existing))  # a file system may refuse what permissions allow
    except OSError as error:
        raise ValueError(
            f"{option} {folder}: nothing can be made in {existing} ({error.strerror}); give another folder"
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


@contextmanager
def finished(path: Path) -> Iterator[Path]:
    """A scratch file beside `path`, which gets a stamp and moves to its place once all has been written inside.

    A kill or an error leaves what was there before. The folder is made if missing.
    """
    ending = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()  # tells writers what to write
    with replacing(path, ending) as scratch:
        yield scratch
        stamp(scratch)


def write_result(path: Path, text: str) -> None:
    """Write a text file that appears under its name only when complete; an object in a .json file gets a stamp."""
    with finished(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
