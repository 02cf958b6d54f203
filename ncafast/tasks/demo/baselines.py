"""What a segmentation is worth: two ways to do it without any learning, scored on the same held-out slices."""

from __future__ import annotations

import numpy as np

from ncafast.tasks.demo.brain import HELD_OUT, Array, Brain
from ncafast.tasks.mednca.metrics import dice


def best_threshold(brain: Brain) -> float:
    """The intensity above which voxels are called white matter so that the training slices' Dice is highest."""
    image = np.concatenate([brain.intensities(name).ravel() for name in brain.training])
    white = np.concatenate([brain.truth(name).ravel() for name in brain.training])
    values = np.unique(image)  # rising; the template has 256 grey levels
    bins = np.searchsorted(values, image)
    both = np.bincount(bins, white, len(values))[::-1].cumsum()[::-1]  # white voxels at or above each value
    above = np.bincount(bins, minlength=len(values))[::-1].cumsum()[::-1]
    scores = 2 * both / (above + white.sum())
    best = int(scores[1:].argmax()) + 1
    return float((values[best - 1] + values[best]) / 2)


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
