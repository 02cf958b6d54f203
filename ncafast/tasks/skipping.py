"""Work on many files, of which some may be unusable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ncafast.utils.progress import Bar, say

R = TypeVar("R")
Skipped = tuple[Path, str]  # a file, and what is wrong with it


def each_usable(
    files: Sequence[Path], work: Callable[[Path], R], error: type[Exception], doing: str, progress: bool = False
) -> tuple[list[R], list[Skipped]]:
    """`work(file)` of every file, and the files that cannot be used.

    A file of several that cannot be used is skipped, with a line that says why.

    Args:
        files: at least one.
        work: what is done with one file.
        error: raised by `work` for a file that cannot be used; a single file's error is raised.
        doing: what the progress bar says, such as "classifying".
        progress: show a bar.

    Raises:
        ValueError: none of several files can be used.
    """
    done: list[R] = []
    skipped: list[Skipped] = []
    bar = Bar(len(files), 0, progress)
    bar.describe(doing)
    try:
        for path in files:
            try:
                done.append(work(path))
            except error as reason:
                if len(files) == 1:
                    raise
                skipped.append((path, str(reason)))
                say(f"skipped: {reason}")
            bar.advance({})
    finally:
        bar.close()
    if not done:
        raise ValueError(f"none of the {len(files)} images can be used; see the lines above")
    return done, skipped
