"""Small synthetic NIfTI sets, a bright ellipsoid in noise with the ellipsoid as the label, and a run on them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from ncafast.tasks.mednca import TrainConfig

Array = np.ndarray


def blob(shape: tuple[int, int, int] = (10, 12, 9), seed: int = 0) -> tuple[Array, Array]:
    """An image [X, Y, Z] float32 and its label [X, Y, Z] uint8 with values 0, 1 and, in its upper half, 2."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    centre = np.array(shape) / 2 + random.uniform(-1, 1, 3)
    inside = (((grid - centre) / (np.array(shape) * 0.3)) ** 2).sum(-1) < 1
    label = inside.astype(np.uint8)
    label[inside & (grid[..., 2] > centre[2])] = 2
    image = 100 + 20 * random.standard_normal(shape) + 150 * inside
    return image.astype(np.float32), label


def affine_of(axes: str = "RAS", spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Array:
    """An affine whose voxel axes run to the given sides, as "LPS"."""
    affine = np.zeros((4, 4))
    for column, letter in enumerate(axes):
        row = "RAS".find(letter)
        sign = 1.0
        if row < 0:
            row, sign = "LPI".find(letter), -1.0
        affine[row, column] = sign * spacing[column]
    affine[:, 3] = (-7.0, 11.0, 5.0, 1.0)
    return affine


def write(path: Path, data: Array, affine: Array | None = None) -> Path:
    """Write a NIfTI-1 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine_of() if affine is None else affine), path)
    return path


def write_set(folder: Path, count: int = 5, shape: tuple[int, int, int] = (10, 12, 9)) -> Path:
    """imagesTr/ and labelsTr/ with volumes case_0, case_1 ... whose sizes differ a little."""
    for number in range(count):
        size = (shape[0] + number % 2, shape[1] + number % 3, shape[2])
        image, label = blob(size, seed=number)
        write(folder / "imagesTr" / f"case_{number}.nii.gz", image)
        write(folder / "labelsTr" / f"case_{number}.nii.gz", label)
    return folder


def tiny(data: Path, out: Path, **options: object) -> TrainConfig:
    """A run of 2 x 7 steps that takes a moment."""
    settings: dict[str, object] = {
        "axis": "axial",
        "state_channels": 4,
        "hidden": 8,
        "kernel_sizes": (3, 3),
        "steps": (3, 3),
        "epochs": 2,
        "lr_step": 1,
        "batch_size": 4,
        "save_every": 3,
        "val_fraction": 0.25,
        "threads": 1,
        "pictures": 1,
        "tensorboard": False,
        "progress": False,
    }
    return TrainConfig(data=data, output=out, **(settings | options))  # type: ignore[arg-type]
