"""Short trainings of every task whose run folders an earlier version wrote, and how to make them.

    python tests/tasks/earlier_runs.py FOLDER

with that version installed writes FOLDER/TASK/{data, run, expected.json}. `earlier` holds what commit a222035
wrote so; test_earlier_runs.py goes on with it.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import json
import os
import re
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import nibabel as nib
import numpy as np

DATA, RUN = Path("data"), Path("run")  # relative, since a run's options hold them
_COMMON = {"batch_size": 2, "epochs": 1, "threads": 1, "tensorboard": False, "progress": False, "output": RUN}
_COMMON["schedule"] = "constant"  # only such a run may be made longer


def _digits(folder: Path) -> None:
    random = np.random.default_rng(1)
    for part, count in (("train", 12), ("t10k", 6)):
        images = random.integers(0, 256, (count, 5, 6)).astype(np.uint8) * (random.random((count, 5, 6)) < 0.4)
        for name, values in (("images-idx3", images.astype(np.uint8)), ("labels-idx1", np.arange(count) % 10)):
            head = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
            content = gzip.compress(head + values.astype(np.uint8).tobytes(), mtime=0)
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(content)


def _volumes(folder: Path) -> None:
    random = np.random.default_rng(2)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number in range(3):
        label = np.zeros((12, 14, 3), np.uint8)
        label[3 + number : 8, 4:9] = 1
        image = (label * 100 + random.integers(0, 40, label.shape)).astype(np.int16)
        for kind, values in (("images", image), ("labels", label)):
            nib.save(nib.Nifti1Image(values, np.eye(4)), folder / kind / f"case{number}.nii.gz")


def _cells(folder: Path) -> None:
    random = np.random.default_rng(3)
    for name, low in (("dark", 0), ("light", 120)):
        (folder / name).mkdir()
        for number in range(4):
            iio.imwrite(folder / name / f"{number}.png", random.integers(low, low + 130, (12, 12, 3)).astype(np.uint8))


def _picture(folder: Path) -> None:
    place = np.add.outer(np.arange(32), np.arange(32))
    pixels = np.where((place % 8 < 4)[..., None], (200, 120, 40, 255), (40, 90, 160, 255)).astype(np.uint8)
    iio.imwrite(folder / "picture.png", pixels)


# Task -> what writes its data, its training options and its evaluation's.
TASKS: dict[str, tuple[Callable[[Path], None], dict[str, Any], dict[str, Any]]] = {
    "classification": (
        _cells,
        {"data": DATA, "size": 12, "state_channels": 6, "hidden": 8, "steps": (2, 3), "val_fraction": 0.25},
        {"data": DATA},
    ),
    "growing": (
        _picture,
        {"image": DATA / "picture.png", "size": 6, "padding": 2, "state_channels": 6, "hidden": 8, "steps": (2, 3),
         "pool_size": 8, "damage": 1, "damage_after": 1},
        {"runs": 2, "grow": 4, "heal": 3},
    ),
    "mednca": (
        _volumes,
        {"images": DATA / "images", "labels": DATA / "labels", "axis": "axial", "state_channels": 6, "hidden": 8,
         "steps": (2, 3)},
        {"images": DATA / "images", "labels": DATA / "labels"},
    ),
    "selfclassify": (
        _digits,
        {"data": DATA, "pool_size": 8, "state_channels": 12, "perception": 8, "hidden": (8,), "steps": (2, 3),
         "val_count": 2, "measured": 2, "pool_after": 1},
        {"data": DATA, "steps": 4},
    ),
    "texture": (
        _picture,
        {"image": DATA / "picture.png", "size": 24, "grid": 16, "state_channels": 6, "hidden": 8, "pool_size": 4,
         "steps": (2, 3), "epoch_length": 2, "loss": "patches"},
        {"image": DATA / "picture.png", "at": (4, 8), "frames": 3, "steps_per_frame": 2, "size": (20, 20)},
    ),
}  # fmt: skip


def train(task: str, epochs: int = 1) -> Any:
    """The training, or what is left of it, in the current folder."""
    module = importlib.import_module(f"ncafast.tasks.{task}")
    return module.train(module.TrainConfig(**(_COMMON | TASKS[task][1] | {"epochs": epochs})))


def evaluate(task: str) -> list[float]:
    """The numbers of the table that evaluation prints of the run in the current folder."""
    module = importlib.import_module(f"ncafast.tasks.{task}")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        module.evaluate(module.EvaluateConfig(model=RUN, output=Path("evaluation"), **TASKS[task][2]))
    return [float(word) for word in re.findall(r"(?<![\w.-])\d+\.?\d*(?![\w.])", said.getvalue())]


def numbers(history: Any) -> list[dict[str, float]]:
    """Rows without the time that they took."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def make(folder: Path) -> None:
    """Data, a run of one epoch, and what a second one came to."""
    for task, (write_data, *_) in TASKS.items():
        home = folder / task
        (home / DATA).mkdir(parents=True)
        os.chdir(home)
        write_data(DATA)
        train(task)
        os.rename(RUN, "kept")
        for picture in [*Path("kept").rglob("*.png"), Path("kept/.lock")]:
            picture.unlink()
        shutil.copytree("kept", RUN)
        expected = {"evaluation": evaluate(task), "history": numbers(train(task, 2).history)}
        Path("expected.json").write_text(json.dumps(expected, indent=1))
        shutil.rmtree("evaluation")
        shutil.rmtree(RUN)
        os.rename("kept", RUN)


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve())
