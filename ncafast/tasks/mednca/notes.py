"""What the headers of a data set say against themselves: one line for each kind, said once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ncafast.tasks.mednca.geometry import contradiction
from ncafast.tasks.mednca.nifti import try_open
from ncafast.tasks.mednca.options import Geometry
from ncafast.utils.progress import is_first, say

_said: set[str] = set()  # a cross-validation trains on the same files again and again


def say_contradictions(paths: Iterable[Path], geometry: Geometry) -> None:
    """Say what `contradictions` finds, unless this process has said it before."""
    if not is_first():
        return
    for line in contradictions(paths, geometry):
        if line not in _said:
            _said.add(line)
            say(f"note: {line}")


def contradictions(paths: Iterable[Path], geometry: Geometry) -> Iterator[str]:
    """One line for each kind of contradiction, with the first file that has it and the number of files that have.

    Args:
        paths: of the files. Those that cannot be read do not count.
        geometry: what says where voxels lie, sform or qform.
    """
    files = list(filter(None, map(try_open, paths)))
    kinds: dict[str, list[str]] = {}
    for file in files:
        found = contradiction(file)
        if found is not None:
            kinds.setdefault("geometry", []).append(f"{file.path}: {found}; {_taken(geometry)}")
        for kind, repair in file.repairs.items():
            kinds.setdefault(kind, []).append(f"{file.path}: {repair}")
    for lines in kinds.values():
        yield f"{lines[0]} ({len(lines)} of {len(files)} files are of this kind)"


def _taken(geometry: Geometry) -> str:
    if geometry == "sform":
        return "the sform is taken, unless --geometry qform is given"
    return "the sform is not taken, as --geometry qform says"
