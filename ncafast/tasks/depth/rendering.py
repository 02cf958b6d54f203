"""A folder of rendered rooms that the commands of depth and of segmentation take as `--data`."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np

from ncafast.tasks.depth.options import RenderConfig
from ncafast.tasks.depth.rooms import room
from ncafast.utils.option_checks import Range, check_options
from ncafast.utils.outputs import check_folder, check_free, finished
from ncafast.utils.progress import Bar, say
from ncafast.utils.seeds import mix

_SIDES = Range(16, 4096)


def render(config: RenderConfig) -> Path:
    """Write images/0000.png, depth/0000.png (millimetres), masks/0000.png (balls are white), and so on.

    Room n does not depend on the count.

    Returns:
        The folder.

    Raises:
        ValueError: options that cannot be used, or a folder that holds other images.
    """
    check_options(config, count=1, size=_SIDES)
    folder = config.output
    kinds = ("images", "depth", "masks")
    rooms = [[folder / kind / f"{number:04}.png" for kind in kinds] for number in range(config.count)]
    files = [path for paths in rooms for path in paths]
    check_folder("--output", folder)
    check_free("--output", files, config.overwrite)
    others = sorted(path for place in {path.parent for path in files} for path in place.glob("*") if path not in files)
    if others:
        raise ValueError(f"--output {folder}: {others[0]} would be taken for one of the rooms; give another folder")
    with Bar(config.count, config.progress, "rendering") as bar:
        for number, paths in enumerate(rooms):
            pixels, metres, balls = room(np.random.default_rng(mix("room", config.seed, number)), *config.size)
            contents = (pixels, np.rint(1000 * metres).astype(np.uint16), np.where(balls, 255, 0).astype(np.uint8))
            for path, content in zip(paths, contents, strict=True):
                with finished(path) as scratch:
                    iio.imwrite(scratch, content)
            bar.advance({})
    say(f"written: {config.count} rooms in {folder}")
    return folder
