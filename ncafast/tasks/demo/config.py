"""The options of the demo. The text under a field is its help text. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ncafast.utils.renamed import Renamed


@dataclass
class DemoConfig(Renamed):
    """Train a small Med-NCA to find white matter in a brain template, try it on unseen slices, time it.

    Takes a few minutes on two CPU cores and no download: the template comes with the package nilearn. The folder it
    leaves holds the model, the segmentation as NIfTI, pictures, an animation and summary.json.
    """

    output: Path = Path("ncafast-demo")
    """Folder for everything the demo writes. An earlier demo in it is replaced."""

    epochs: int = 120
    """Passes over the training slices."""

    seed: int = 0
    """Governs everything random: first weights, order of the slices, crops, firing cells."""

    quick: bool = False
    """Only show that everything works, in well under a minute: few slices, few steps, a poor segmentation."""

    progress: bool = True
    """Show progress bars."""
