"""Pictures as files: matplotlib figures to pixels, pixels to PNG."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ncafast.utils.outputs import finished

Array = np.ndarray[Any, Any]


def write_png(path: Path, picture: Array) -> None:
    """Write [height, width, 3] uint8 as PNG, which appears under its name only when complete."""
    with finished(path) as scratch:
        iio.imwrite(scratch, picture)


def pixels_of(figure: Figure) -> Array:
    """The figure as [height, width, 3] uint8."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():  # a file's name may hold letters that the font lacks; they become boxes
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
