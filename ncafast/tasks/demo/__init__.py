"""`ncafast demo`: the Med-NCA task end to end on a brain template that comes inside a Python package, and its speed.

Nothing here trains or draws by itself: it prepares data, calls the task as a user would, and measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ncafast.tasks import on_demand
from ncafast.threads_option import Threads
from ncafast.utils.renamed import Renamed

__all__ = ["DemoConfig", "run"]


@dataclass
class DemoConfig(Renamed, Threads):
    """Train a small Med-NCA to find white matter in shaded, noisy brain slices, try it on unseen ones, time it.

    Brightness falls to a third across each slice, so that a threshold cannot find it. Takes a few minutes on two CPU
    cores and no download: the slices are drawn from a template in the package nilearn. The folder it leaves holds the
    model, the segmentation as NIfTI, pictures, an animation and summary.json.
    """

    output: Path = Path("ncafast-demo")
    """Folder for everything the demo writes. An earlier demo in it is replaced."""

    epochs: int = 20
    """Passes over the training slices."""

    seed: int = 0
    """Governs everything random: how slices are drawn, first weights, order, crops, firing cells."""

    quick: bool = False
    """Only show that everything works, in well under a minute: few slices, few steps, a poor segmentation."""

    progress: bool = True
    """Show progress bars."""


def run(config: DemoConfig) -> None:
    """Run the demo as configured; see `ncafast.tasks.demo.job.run`."""
    on_demand.imported("nilearn", "demo", "demo")  # its absence is said before any work
    try:
        on_demand.imported("ncafast.tasks.demo.job", "demo", "demo").run(config)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command starts the demo anew") from None
