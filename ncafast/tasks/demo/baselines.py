"""What a segmentation is worth: two ways to do it without any learning, scored on the same held-out slices."""

from __future__ import annotations

import numpy as np

from ncafast.losses.masks import dice
from ncafast.tasks.demo.brain import HELD_OUT, Array, Brain


def best_threshold(brain: Brain) -> float:
    """The intensity above which voxels are called white matter so that the training slices' Dice is highest."""
    image = np.concatenate([brain.intensities(name).ravel() for name in brain.training])
    white = np.concatenate([brain.truth(name).ravel() for name in brain.training])
    values = np.unique(image)  # rising; the template has 256 grey levels
    between = (values[:-1] + values[1:]) / 2
    return float(max(between, key=lambda threshold: dice(image > threshold, white)))


def threshold_dice(brain: Brain, threshold: float) -> float:
    """Dice of the held-out slices when voxels brighter than `threshold` are called white matter."""
    return dice(brain.intensities(HELD_OUT) > threshold, brain.truth(HELD_OUT))


def copy_dice(brain: Brain) -> float:
    """Dice of the held-out slices when each one gets the labels of the nearest training slice.

    It says how much of the result neighbourhood alone could explain.
    """
    start, stop = brain.blocks[HELD_OUT]
    edges = [edge for name in brain.training for edge in (brain.blocks[name][0], brain.blocks[name][1] - 1)]
    nearest = [min(edges, key=lambda edge: abs(edge - y)) for y in range(start, stop)]
    across, _, up = brain.region(HELD_OUT)
    copied: Array = brain.white[across][:, nearest][:, :, up]
    return dice(copied, brain.truth(HELD_OUT))
