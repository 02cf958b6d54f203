"""The image files that a command is given, and where pictures of them go. Links to folders are followed; what is hidden
is ignored, and so are the folders that archives have beside the images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ncafast.missing import missing
from ncafast.tasks.image_hints import RAW_ENDINGS
from ncafast.tasks.images import ImageError
from ncafast.utils.outputs import check_apart, check_folder, check_free
from ncafast.utils.progress import note

ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")  # of photographs
_OTHERS = frozenset(
    [".heic", ".heif", ".hif", ".avif", ".jxl", ".jfif", ".jp2", ".j2k", ".pgm", ".ppm", ".pnm", ".tga", ".psd", ".svg"]
)
_IGNORED = ("__MACOSX",)  # beside the folders of an archive that was packed on a Mac


def list_images(source: Path, endings: Sequence[str], *, deep: bool = True) -> list[Path]:
    """A file itself, or the image files in a folder, sorted.

    Notes name the endings of files that may be images too, and the folders that are not looked into.

    Args:
        source: a file or a folder.
        endings: of image files, in lower case.
        deep: whether to look into the folders inside, at any depth.

    Raises:
        ImageError: it does not exist, holds no image, or a folder inside cannot be read.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ImageError(f"{source}: {missing(source, 'file or folder')}; give an image or a folder of images")
    inside = [] if deep else [path.name for path in folders_in(source)]
    if inside:
        note(f"folders in {source} are not looked into: {', '.join(inside[:5])}{' ...' if inside[5:] else ''}")
    everything = sorted(_files(source, frozenset(), deep))
    files = [path for path in everything if path.suffix.lower() in endings]
    known = (RAW_ENDINGS | _OTHERS).difference(endings)
    others = Counter(path.suffix.lower() for path in everything if path.suffix.lower() in known)
    if others:
        counts = ", ".join(f"{count} {ending}" for ending, count in others.most_common(5))
        read = ", ".join(endings)
        note(f"{source}: files left out by their endings: {counts}; convert them to PNG ({read} are read)")
    if not files:
        raise ImageError(f"{source}: holds no image ({', '.join(endings)}); give the folder that holds them")
    return files


def folders_in(folder: Path) -> list[Path]:
    """The folders right inside a folder, sorted, without those that are ignored."""
    return sorted(path for path in folder.iterdir() if not _ignored(path.name) and path.is_dir())


def picture_names(files: Iterable[Path], source: Path) -> dict[Path, Path]:
    """Where in a folder the picture of each image of `source` goes: a.png for a.jpg.

    Images of one folder that differ in their ending alone keep it, as in a.jpg.png and a.tif.png.
    """
    folder = source if source.is_dir() else source.parent
    inside = {file: file.relative_to(folder) for file in files}
    names = {file: path.with_name(f"{path.stem}.png") for file, path in inside.items()}
    while True:
        taken = Counter(str(name).casefold() for name in names.values())  # a disk may take A.png for a.png
        whole = {file: path.with_name(f"{path.name}.png") for file, path in inside.items()
                 if taken[str(names[file]).casefold()] > 1}  # fmt: skip
        if whole.items() <= names.items():
            return names
        names |= whole  # whose names may be those of others


def check_pictures(written: Sequence[Path], files: Iterable[Path], overwrite: bool) -> None:
    """Raise ValueError if what is written for images would replace one of them, or what ncafast did not write."""
    sources = {file.resolve() for file in files}
    if wrong := next((path for path in written if path.resolve() in sources), None):
        raise ValueError(f"--output: {wrong} would replace the image itself; give another folder")
    check_free("--output", written, overwrite)


def list_beside(source: Path, output: Path, folders: Sequence[str], overwrite: bool) -> list[Path]:
    """The images of a file or folder, of each of which one picture goes into the folder `output` and one into each of
    `folders` inside it; see `picture_names`.

    Raises:
        ValueError: the images cannot be listed, or the pictures not be written.
    """
    check_folder("--output", output)
    check_apart("--output", output, "--input", source)
    files = list_images(source, ENDINGS)
    names = picture_names(files, source).values()
    written = [place / name for place in (output, *map(output.joinpath, folders)) for name in names]
    twice = [path for path, count in Counter(written).items() if count > 1]
    if twice:
        raise ValueError(f"--output: {twice[0]} would hold two results; rename {' and '.join(folders)} in {source}")
    check_pictures(written, files, overwrite)
    return files


def _ignored(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED


def _files(folder: Path, above: frozenset[str], deep: bool) -> Iterator[Path]:
    """The files in a folder. A link that leads back to a folder above it is left out: it would never end."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        inside = list(folder.iterdir())
    except OSError as error:
        raise ImageError(f"{folder}: cannot be read ({error.strerror}); change its permissions or move it") from error
    for path in inside:
        if _ignored(path.name):
            continue
        if path.is_dir() and deep:
            yield from _files(path, above | {real}, deep)
        elif path.is_file():
            yield path
