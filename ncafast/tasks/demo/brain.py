"""The demo's data: slices of a brain template, posed, shaded and noisy, so that intensity does not tell white matter.

The template (MNI ICBM 152 2009a, 1 mm, skull-stripped) and its white-matter map come inside the nilearn package. Every
coronal slice gets at random

* a pose: a rotation up to 20 degrees, a shift up to 8 mm, a scale from 0.9 to 1.1;
* shading, as of a receive coil on one side: brightness falls to a third from one side to the other, exponentially;
* noise of a magnitude image (Rician) with a deviation of 2 % of the brightest voxel.

White matter is about 1.3 times as bright as grey matter, so shading alone is more than the contrast.

Neighbouring slices of the template are nearly copies of each other. So the held-out slices are one block, with a gap
on either side to the blocks that training slices come from. No slice of it, in whatever pose, is trained on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import ndimage

Array = np.ndarray[Any, Any]

GAP = 8  # slices between training and held-out ones; a slice is 1 mm
HELD_OUT = "middle"
WATCHED, WATCHED_EVERY = "middle-sample", 6  # some held-out slices, to draw the Dice over the epochs from
BLOCKS = {"back": (46, 96), HELD_OUT: (104, 128), "front": (136, 170)}  # slices [start, stop)
QUICK_BLOCKS = {"back": (88, 96), HELD_OUT: (104, 108), "front": (136, 144)}
DRAWS, QUICK_DRAWS = 6, 1  # times that each training block is drawn
EVERY = 2  # of a training block's slices one in so many
WHITE = 0.5  # a voxel is white matter where its map is above

SIDE = 176  # of a drawn slice, in pixels of 1 mm
CENTRE = (98.0, 80.0)  # of the brain in the template, left-right and bottom-top
TURN, SHIFT, SCALE = 20.0, 8.0, 1.1  # degrees, mm, factor: the most that a pose changes
SHADE = 3.0  # brightest over darkest side
NOISE = 0.02  # where 1 is the brightest voxel of the template


@dataclass(frozen=True)
class Scan:
    """A stack of coronal slices, and where they hold white matter."""

    image: Array  # [SIDE, S, SIDE] float32
    white: Array  # [SIDE, S, SIDE] bool


@dataclass(frozen=True)
class Brain:
    """All scans of the demo."""

    training: dict[str, Scan]
    held_out: Scan
    blocks: dict[str, tuple[int, int]]

    def stacked(self) -> Scan:
        """All training slices as one stack."""
        scans = self.training.values()
        return Scan(*(np.concatenate([getattr(scan, name) for scan in scans], 1) for name in ("image", "white")))


def load(seed: int, quick: bool = False) -> Brain:
    """Draw the scans from the template in the nilearn package; nothing is downloaded."""
    image = datasets.load_mni152_template(resolution=1).get_fdata(dtype=np.float32)
    white = datasets.load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32)
    blocks, draws = (QUICK_BLOCKS, QUICK_DRAWS) if quick else (BLOCKS, DRAWS)
    rng = np.random.default_rng(seed)
    held_out = draw(image, white, range(*blocks[HELD_OUT]), rng)
    training = {
        f"{name}-{number}": draw(image, white, range(start + number % EVERY, stop, EVERY), rng)
        for name, (start, stop) in blocks.items()
        for number in range(draws)
        if name != HELD_OUT
    }
    return Brain(training, held_out, blocks)


def draw(image: Array, white: Array, slices: range, rng: np.random.Generator) -> Scan:
    """These slices of the template [X, Y, Z] and of its white-matter map, each with a pose, shading and noise."""
    drawn, truth = [], []
    for y in slices:
        turn = np.deg2rad(rng.uniform(-TURN, TURN))
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        matrix /= SCALE ** rng.uniform(-1, 1)
        offset = CENTRE - matrix @ (SIDE / 2 + rng.uniform(-SHIFT, SHIFT, 2))
        posed = [
            ndimage.affine_transform(part[:, y], matrix, offset, output_shape=(SIDE, SIDE), order=1)
            for part in (image, white)
        ]
        drawn.append(_magnitude(posed[0] * _shading(rng), rng))
        truth.append(posed[1] > WHITE)
    return Scan(np.stack(drawn, 1).astype(np.float32), np.stack(truth, 1))


def _shading(rng: np.random.Generator) -> Array:
    """Brightness [SIDE, SIDE], from 1 on one side of the slice, at a random angle, to 1 / SHADE on the other."""
    angle = rng.uniform(0, 2 * np.pi)
    across, up = np.meshgrid(*[np.linspace(-0.5, 0.5, SIDE)] * 2, indexing="ij")
    return SHADE ** (across * np.cos(angle) + up * np.sin(angle) - 0.5)


def _magnitude(signal: Array, rng: np.random.Generator) -> Array:
    """The magnitude of a signal with noise in its real and its imaginary part."""
    real, imaginary = rng.normal(0, NOISE, (2, *signal.shape))
    return np.hypot(signal + real, imaginary)


def write_volumes(brain: Brain, folder: Path) -> Path:
    """Write the scans as NIfTI files, as `ncafast train mednca` reads them.

    The training scans go to imagesTr/ and labelsTr/, together with every few slices of the held-out one, from which
    training reports its progress; the whole held-out scan goes to imagesTs/ and labelsTs/. Returns the list file that
    keeps those few slices out of training.
    """
    for name, scan in brain.training.items():
        _write_pair(scan, folder, "Tr", name)
    some = Scan(brain.held_out.image[:, ::WATCHED_EVERY], brain.held_out.white[:, ::WATCHED_EVERY])
    _write_pair(some, folder, "Tr", WATCHED)
    _write_pair(brain.held_out, folder, "Ts", HELD_OUT)
    label = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "white matter": 1}}
    (folder / "dataset.json").write_text(json.dumps(label), encoding="utf-8")
    names = folder / "held-out.txt"
    names.write_text(f"{WATCHED}\n", encoding="utf-8")
    return names


def _write_pair(scan: Scan, folder: Path, part: str, name: str) -> None:
    for kind, data in (("images", scan.image), ("labels", scan.white.astype(np.uint8))):
        path = folder / f"{kind}{part}" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(data, np.eye(4)), path)
