"""The picture of docs/why-fast.md: cells that fire, gathered into a dense tile."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import ncafast

SIZE, WIDTH = 12, 8
COLOURS = "viridis"


def draw(folder: Path) -> list[Path]:
    """Draw the picture into a folder. Returns the file."""
    fired = ncafast.fire_mask((1, 1, SIZE, SIZE), fire_rate=0.5, seed=3)[0, 0]
    cells = torch.arange(SIZE * SIZE).reshape(SIZE, SIZE)
    gathered = torch.full((-(-int(fired.sum()) // WIDTH) * WIDTH,), -1)
    gathered[: int(fired.sum())] = cells[fired]
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _show(left, cells.where(fired, -1), f"fire mask: {int(fired.sum())} of {SIZE * SIZE} cells fire")
    _show(right, gathered.reshape(-1, WIDTH), "the tile on which the hidden layers run")
    path = folder / "why-fast-compaction.png"
    figure.savefig(path, dpi=110)
    return [path]


def _show(axes: Axes, cells: torch.Tensor, title: str) -> None:
    """Cells in the colour of their number; those that are -1 stay empty."""
    axes.imshow(torch.where(cells < 0, torch.nan, cells), COLOURS, vmin=0, vmax=SIZE * SIZE, aspect="equal")
    rows, columns = cells.shape
    axes.set_xticks(torch.arange(columns + 1) - 0.5, labels=[])
    axes.set_yticks(torch.arange(rows + 1) - 0.5, labels=[])
    axes.grid(color="0.8", linewidth=0.6)
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=9)
