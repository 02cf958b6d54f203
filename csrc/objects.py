"""Compiles sources side by side with ninja, and only those whose content changed. For setup.py.

An object's name holds a digest of its command, its source and every header of ours that this includes. So an object is
never out of date, whatever the files' times say, and going back to an earlier state compiles nothing.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class CompileError(Exception):
    """A source did not compile; the message is what the compiler said."""


def compiled(
    sources: Sequence[Path], command: Sequence[str], folders: Sequence[Path], made: Path, versions: str
) -> list[Path]:
    """Objects of sources, in their order.

    Args:
        sources: what to compile.
        command: the compiler and its flags, to which source and object are added.
        folders: where headers of ours lie, beside the folder of whoever includes them.
        made: where objects go; those of other versions of the same sources are removed.
        versions: of headers that are not ours. They count, and not their folders, which pip names anew for each build.

    Raises:
        CompileError: a source does not compile, or there is no ninja.
    """
    made.mkdir(parents=True, exist_ok=True)
    flags = " ".join(word for word in command if not word.startswith("-I")) + versions
    read = {source: [path.read_bytes() for path in _with_headers(source, folders)] for source in sources}
    objects = {source: made / f"{source.stem}-{_digest(flags, read[source])}.o" for source in sources}
    for old in (old for source in sources for old in made.glob(f"{source.stem}-{'?' * _DIGITS}.o")):
        if old not in objects.values():
            old.unlink()
    missing = [source for source in sources if not objects[source].exists()]
    missing.sort(key=lambda source: _work(read[source]), reverse=True)
    if missing:
        _run_ninja(made / "build.ninja", command, {source: objects[source] for source in missing})
    return list(objects.values())


def _run_ninja(file: Path, command: Sequence[str], objects: Mapping[Path, Path]) -> None:
    """Compile all that compiles. An object gets its name when it is complete."""
    words = " ".join(_escaped(shlex.quote(word)) for word in command)
    lines = [f"builddir = {_path(file.parent)}", "rule compile", "  description = $in"]
    lines += [f"  command = {words} -c $in -o $out.part && mv $out.part $out"]
    lines += [f"build {_path(to)}: compile {_path(source)}" for source, to in objects.items()]
    file.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [_ninja(), "-f", str(file), "-k", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise CompileError(done.stdout.strip())
    print(*(line for line in done.stdout.splitlines() if line.startswith("[")), sep="\n")


def _ninja() -> str:
    """The program, from the package of that name where it is installed."""
    beside = Path(sys.executable).with_name("ninja")
    found = str(beside) if beside.is_file() else shutil.which("ninja")
    if found is None:
        raise CompileError("no ninja was found, which runs the compiler: pip install ninja")
    return found


_DIGITS = 16


def _work(contents: Sequence[bytes]) -> int:
    """Bytes that the compiler reads, about, so that what takes longest comes first."""
    return sum(map(len, contents)) + 10**6 * any(b"<pybind11/" in content for content in contents)


def _digest(flags: str, contents: Sequence[bytes]) -> str:
    digest = hashlib.sha256(flags.encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:_DIGITS]


def _with_headers(source: Path, folders: Sequence[Path]) -> list[Path]:
    """The source and all that it includes in quotes, in the order in which they are met."""
    found, left = [], [source]
    while left:
        path = left.pop(0)
        if path in found:
            continue
        found.append(path)
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE):
            places = (folder / name for folder in (path.parent, *folders))
            left += [place.resolve() for place in places if place.is_file()][:1]
    return found


def _escaped(text: str) -> str:
    return text.replace("$", "$$")


def _path(path: Path) -> str:
    """A path in ninja's language."""
    return re.sub(r"([ :])", r"$\1", _escaped(str(path)))
