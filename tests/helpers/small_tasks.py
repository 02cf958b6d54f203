"""Tasks that train from a pool, on inputs of their own, for a few steps."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import small_digits
import small_growing
import small_texture
from nifti import tiny, write_set
from PIL import Image

from ncafast.tasks import growing, mednca, selfclassify, texture
from ncafast.tasks.growing import job as growing_job
from ncafast.tasks.selfclassify import job as digits_job


def train_texture(inputs: Path, out: Path, batch: int) -> None:
    texture.train(small_texture.tiny(inputs / "stripes.png", out, epochs=1, batch_size=batch))


def train_growing(inputs: Path, out: Path, batch: int) -> None:
    growing_job.FromPool.epoch_length = 3
    growing.train(small_growing.options(inputs / "disc.png", out, epochs=1, batch_size=batch))


def train_selfclassify(inputs: Path, out: Path, batch: int) -> None:
    digits_job.SelfClassifying.epoch_length = 3
    selfclassify.train(small_digits.options(inputs / "digits", out, epochs=1, batch_size=batch))


def train_volumes(inputs: Path, out: Path, processes: int) -> None:
    """A model of two levels on whole volumes, which so many processes share."""
    options = {"dims": 3, "crop": 512, "batch_size": 2, "domain_parallel": processes}
    mednca.train(tiny(inputs / "volumes", out, **options))


TASKS = {"texture": train_texture, "growing": train_growing, "selfclassify": train_selfclassify}


def write_inputs(folder: Path) -> None:
    """A texture, an image to grow, digits, and volumes."""
    (folder / "digits").mkdir(parents=True)
    write_set(folder / "volumes", 3)
    small_texture.picture(folder / "stripes.png")
    image = Image.new("RGBA", (12, 12))
    image.paste((30, 60, 230, 255), (2, 3, 9, 11))
    image.save(folder / "disc.png")
    for name, values in zip(("images-idx3", "labels-idx1"), small_digits.bars(60, seed=60), strict=True):
        (folder / "digits" / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(small_digits.idx(np.asarray(values))))
