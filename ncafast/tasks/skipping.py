"""Work on many files, of which some may be unusable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ncafast.utils.progress import Bar, say

T = TypeVar("T")
R = TypeVar("R")


def each_usable(
    files: Sequence[T],
    work: Callable[[T], R],
    error: type[Exception],
    doing: str,
    progress: bool = False,
    output: Path | None = None,
) -> tuple[list[R], list[tuple[T, str]]]:
    """`work(file)` of every file, and the files that cannot be used with what is wrong with them.

    A file of several that cannot be used is skipped, with a line that says why.

    Args:
        files: at least one, or what stands for the files of a case.
        work: what is done with one file.
        error: raised by `work` for a file that cannot be used; a single file's error is raised.
        doing: what the progress bar says, such as "classifying".
        progress: show a bar.
        output: folder into which `work` writes what it finds in each file.

    Raises:
        KeyboardInterrupt: with how many files are done, for the line that Ctrl-C ends with, if there is an output.
        ValueError: none of several files can be used.
    """
    done: list[R] = []
    skipped: list[tuple[T, str]] = []
    with Bar(len(files), progress, doing) as bar:
        for file in files:
            try:
                done.append(work(file))
            except KeyboardInterrupt:
                if output is None or len(files) == 1:
                    raise
                raise KeyboardInterrupt(
                    f"{len(done)} of {len(files)} results are in {output}; the same command begins with the first again"
                ) from None
            except error as reason:
                if len(files) == 1:
                    raise
                skipped.append((file, str(reason)))
                say(f"skipped: {reason}")
            bar.advance({})
    if not done:
        raise ValueError(f"none of the {len(files)} images can be used; see the lines above")
    return done, skipped
