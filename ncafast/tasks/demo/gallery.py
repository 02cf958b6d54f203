"""The demo's pictures, made by the task's own drawing functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ncafast.tasks.demo.brain import HELD_OUT, Array, Brain
from ncafast.tasks.mednca import animation, pictures
from ncafast.tasks.mednca.metrics import dice
from ncafast.tasks.mednca.model_file import TrainedModel
from ncafast.viz import charts, write_animation
from ncafast.viz.figures import write_png

SHOWN = 3  # slices in the overlay
SECONDS = 6  # of the animation


def write(
    folder: Path,
    brain: Brain,
    trained: TrainedModel,
    found: Array,  # [X, Y, Z] bool, the held-out block
    history: Sequence[dict[str, Any]],
    volume_dice: float,
    seed: int,
) -> None:
    """Write overlay.png, curves.png and automaton.gif."""
    images = trained.spec.recipe.image_slices(brain.intensities(HELD_OUT)[None]).astype(np.float32)
    ours = np.moveaxis(found, 1, 0)
    truth = np.moveaxis(brain.truth(HELD_OUT), 1, 0)
    start = brain.blocks[HELD_OUT][0]
    rows = []
    for number in np.linspace(0, len(images) - 1, SHOWN + 2).round().astype(int)[1:-1]:
        score = f"Dice {dice(ours[number], truth[number]):.3f} (all slices: {volume_dice:.3f})"
        rows.append(
            pictures.overlay(
                images[number, 0],
                ours[number].astype(np.uint8),
                truth[number].astype(np.uint8),
                axis="coronal",
                title=f"held-out slice {start + number}, white matter: {score}",
            )
        )
    write_png(folder / "overlay.png", np.concatenate(rows))
    write_png(folder / "curves.png", charts.curves(history, pictures.PANELS))
    middle = len(images) // 2
    seen = list(animation.stages(trained.model, torch.from_numpy(images), middle, seed=seed))
    frames = animation.segmentation(seen, images[middle, 0], animation.read_from(trained.model), "coronal")
    write_animation(folder / "automaton.gif", frames, fps=len(frames) / SECONDS, hold=1.5)
