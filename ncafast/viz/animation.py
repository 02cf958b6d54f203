"""Frames to a GIF or an MP4, put in its place when complete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ncafast.utils.outputs import check_folder, check_free, finished
from ncafast.utils.progress import Bar
from ncafast.viz.pixels import Array, enlarged

KINDS = (".gif", ".mp4")
_COLOURS, _COMMON = 256, 8  # of a GIF's palette, and those of them that are the commonest


def check_animation(path: Path, option: str = "--output", overwrite: bool = True) -> None:
    """Raise, before any work is done, if an animation cannot be written there.

    Args:
        path: where it goes.
        option: that says so.
        overwrite: whether a file that ncafast did not write may be replaced.

    Raises:
        ValueError: another ending, a place where no file can be, or a file to keep; the message names the option.
        ModuleNotFoundError: a package is missing; the message names the extra that brings it.
    """
    if path.suffix.lower() not in KINDS:
        raise ValueError(f"{option} {path}: the name must end in {' or '.join(KINDS)}")
    if path.is_dir():
        raise ValueError(f"{option} {path}: is a folder; give the name of a file in it")
    check_folder(option, path.parent)
    check_free(option, [path], overwrite)
    if not find_spec("imageio"):
        raise ModuleNotFoundError(f"{option} {path}: needs imageio; run: pip install 'ncafast[tasks]'", name="imageio")
    if path.suffix.lower() == ".mp4" and not find_spec("imageio_ffmpeg"):  # which imageio's own writer needs
        remedy = "run: pip install 'ncafast[video]', or give a name that ends in .gif"
        raise ModuleNotFoundError(f"{option} {path}: MP4 needs imageio-ffmpeg; {remedy}", name="imageio_ffmpeg")


def write_animation(
    path: Path,
    frames: Iterable[Array],
    *,
    fps: float = 20.0,
    scale: int = 1,
    hold: float = 0.0,
    total: int | None = None,
    progress: bool = False,
) -> int:
    """Write frames [H, W, 3] uint8 of one size as a GIF, which loops for ever, or an MP4, by the name's ending.

    Frames may come from a generator; an MP4 keeps none of them in memory.

    Args:
        path: the file; its folder is made if missing.
        frames: at least one.
        fps: frames per second. A GIF counts in hundredths of a second, and viewers slow down beyond 50.
        scale: every pixel becomes a square of so many pixels.
        hold: seconds that the last frame stays on.
        total: number of frames, for the progress bar.
        progress: show a bar.

    Returns:
        The number of frames.

    Raises:
        ValueError: another ending, no frames, frames of several sizes, fps, scale or hold out of range.
        ModuleNotFoundError: as `check_animation`.
    """
    check_animation(path, "path")
    if not 0 < fps <= 1000:
        raise ValueError(f"fps={fps} is not allowed; give a number above 0, such as 20")
    if scale < 1:
        raise ValueError(f"scale={scale} is not allowed; give a whole number from 1")
    if not 0 <= hold <= 60:
        raise ValueError(f"hold={hold} is not allowed; give seconds from 0 to 60")
    write = _write_mp4 if path.suffix.lower() == ".mp4" else _write_gif
    with Bar(total or 0, progress, f"writing {path.name}") as bar, finished(path) as scratch:
        return write(scratch, _prepared(frames, scale, bar), fps, hold)


def _prepared(frames: Iterable[Array], scale: int, bar: Bar) -> Iterator[Array]:
    """The frames at their size on the screen."""
    size = None
    for frame in frames:
        size = frame.shape if size is None else size
        if frame.shape != size or len(size) != 3 or size[2] != 3:
            raise ValueError(f"frames must be [H, W, 3] of one size, got {list(size)} and {list(frame.shape)}")
        yield enlarged(frame, scale)
        bar.advance({})
    if size is None:
        raise ValueError("an animation needs at least one frame")


def _write_gif(path: Path, frames: Iterable[Array], fps: float, hold: float) -> int:
    from PIL import Image

    kept = list(frames)  # each frame's time stands in its header, so the last one must be known
    times = [1000 / fps] * (len(kept) - 1) + [1000 / fps + 1000 * hold]  # milliseconds
    palette, numbers = _indexed(kept)
    first, *others = map(Image.fromarray, numbers)
    for image in (first, *others):
        image.putpalette(palette.tobytes())
    duration = times if others else times[0]
    first.save(path, "GIF", save_all=True, append_images=others, duration=duration, loop=0)
    return len(kept)


def _indexed(frames: Sequence[Array]) -> tuple[Array, list[Array]]:
    """At most 256 colours [n, 3] uint8 for frames [H, W, 3], and of each pixel the number of the nearest, [H, W] uint8.

    One palette for all frames, so that nothing flickers. It has all colours where they are no more. Otherwise it has
    the commonest ones, such as the page, then again and again the one that is farthest from these, however rare, so
    that a narrow colour bar has as many as it needs.
    """
    packed = [frame.astype(np.uint32) @ np.array([2**16, 2**8, 1], np.uint32) for frame in frames]
    counts = np.zeros(2**24, np.int64)
    for frame in packed:
        occurring, times = np.unique(frame, return_counts=True)
        counts[occurring] += times
    numbers = np.flatnonzero(counts)
    numbers = numbers[np.argsort(-counts[numbers], kind="stable")]
    colours = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], -1).astype(np.float32)
    palette, nearest = [], np.zeros(2**24, np.uint8)
    distance = np.full(len(colours), np.inf, np.float32)
    for number in range(min(_COLOURS, len(colours))):
        colour = colours[number if number < _COMMON else distance.argmax()]
        here = ((colours - colour) ** 2).sum(1)
        nearest[numbers[here < distance]] = number
        distance = np.minimum(distance, here)
        palette.append(colour)
    return np.array(palette, np.uint8), [nearest[frame] for frame in packed]


def _write_mp4(path: Path, frames: Iterable[Array], fps: float, hold: float) -> int:
    import imageio.v2 as iio

    count = 0
    film: Any
    with iio.get_writer(path, format="FFMPEG", fps=fps, codec="libx264", macro_block_size=1) as film:
        for frame in frames:
            height, width = frame.shape[:2]
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge")  # players want even numbers
            film.append_data(even)
            count += 1
        for _ in range(round(hold * fps)):
            film.append_data(even)
    return count
