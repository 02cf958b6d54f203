"""The demo's data: a T1 brain template cut into two training volumes and, between them, a held-out one.

The template (MNI ICBM 152 2009a, 1 mm, skull-stripped) and its white-matter map come inside the nilearn package. It
is cut into coronal slices; the held-out ones go through thalamus and putamen, where grey matter is nearly as bright as
white matter, so that intensity alone does not tell them apart. Neighbouring slices are nearly copies of each other: a
held-out slice right beside a training slice would be a leak. So the held-out slices are one block with a gap on either
side.

The task scales each volume by percentiles of its own, which move with the share of white matter; the training blocks
end where they would no longer agree with the held-out block's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nilearn import datasets

Array = np.ndarray[Any, Any]

GAP = 8  # slices between training and held-out ones; a slice is 1 mm
HELD_OUT = "middle"
WATCHED, WATCHED_EVERY = "middle-sample", 6  # some held-out slices, to draw the Dice over the epochs from
BLOCKS = {"back": (46, 96), HELD_OUT: (104, 128), "front": (136, 170)}  # slices [start, stop)
QUICK_BLOCKS = {"back": (86, 96), HELD_OUT: (104, 110), "front": (136, 146)}
IN_PLANE = (slice(24, 174), slice(0, 156))  # left-right and bottom-top; outside is empty
WHITE = 0.5  # a voxel is white matter where its map is above


@dataclass(frozen=True)
class Brain:
    """The template, its white matter, and the blocks cut from it."""

    image: nib.Nifti1Image  # [197, 233, 189] intensities 0..1
    white: Array  # [197, 233, 189] bool
    blocks: dict[str, tuple[int, int]]

    def region(self, name: str) -> tuple[slice, slice, slice]:
        """Where a block lies in the template."""
        return IN_PLANE[0], slice(*self.blocks[name]), IN_PLANE[1]

    def intensities(self, name: str) -> Array:
        """A block's intensities [X, Y, Z] float32."""
        return self.image.get_fdata(dtype=np.float32)[self.region(name)]

    def truth(self, name: str) -> Array:
        """A block's white matter [X, Y, Z] bool."""
        return self.white[self.region(name)]

    @property
    def training(self) -> list[str]:
        """Names of the training blocks."""
        return [name for name in self.blocks if name != HELD_OUT]


def load(quick: bool = False) -> Brain:
    """Read the template from the nilearn package; nothing is downloaded."""
    image = datasets.load_mni152_template(resolution=1)
    white = datasets.load_mni152_wm_template(resolution=1)
    return Brain(image, white.get_fdata(dtype=np.float32) > WHITE, QUICK_BLOCKS if quick else BLOCKS)


def write_volumes(brain: Brain, folder: Path) -> Path:
    """Write the blocks as NIfTI files, as `ncafast train mednca` reads them.

    The training blocks go to imagesTr/ and labelsTr/, together with every few slices of the held-out block, from which
    training reports its progress; the whole held-out block goes to imagesTs/ and labelsTs/. Returns the list file that
    keeps those few slices out of training.
    """
    for name in brain.training:
        _write_pair(brain, folder, "Tr", name, brain.region(name))
    across, (start, stop), up = IN_PLANE[0], brain.blocks[HELD_OUT], IN_PLANE[1]
    _write_pair(brain, folder, "Tr", WATCHED, (across, slice(start, stop, WATCHED_EVERY), up))
    _write_pair(brain, folder, "Ts", HELD_OUT, brain.region(HELD_OUT))
    names = folder / "held-out.txt"
    names.write_text(f"{WATCHED}\n", encoding="utf-8")
    return names


def _write_pair(brain: Brain, folder: Path, part: str, name: str, region: tuple[slice, slice, slice]) -> None:
    affine = brain.image.slicer[region].affine
    image = brain.image.get_fdata(dtype=np.float32)[region]
    for kind, data in (("images", image), ("labels", brain.white[region].astype(np.uint8))):
        path = folder / f"{kind}{part}" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(data, affine), path)


def write_prediction(brain: Brain, found: Array, path: Path) -> None:
    """Write the held-out block's segmentation [X, Y, Z] in the template's own space; 0 outside the block."""
    whole = np.zeros(brain.image.shape, np.uint8)
    whole[brain.region(HELD_OUT)] = found
    image = nib.Nifti1Image(whole, brain.image.affine)
    image.header["descrip"] = b"white matter, ncafast demo"
    nib.save(image, path)
