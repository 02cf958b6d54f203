"""What a segmentation is worth: ways without a network, fitted to the training slices, on the held-out slices."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ncafast.tasks.demo.brain import Array, Brain, Scan

THRESHOLD = "best threshold"
_LEVELS = 128  # of intensity, between which ranges are sought
_DENOISE, _SURROUNDINGS = (1.0, 1.5, 2.0), (10.0, 20.0)  # deviations of Gaussian filters, mm


def masks(brain: Brain) -> dict[str, Array]:
    """The held-out slices' white matter [X, S, Z] bool as each way finds it, by its name."""
    training, held_out = brain.stacked(), brain.held_out.image
    low, _, _ = best_range(training.image, training.white, one_sided=True)
    return {
        THRESHOLD: held_out > low,
        "best range, largest component": _range(training, held_out),
        "Gaussian classifier of intensity": _gaussian(training, held_out),
        "denoised, over its surroundings": _flattened(training, held_out),
        "position alone": _position(training, held_out),
    }


def best_range(image: Array, white: Array, one_sided: bool = False) -> tuple[float, float, float]:
    """The intensities (low, high) between which white matter is found with the highest Dice, and that Dice.

    With `one_sided`, high is the highest intensity.
    """
    edges = np.linspace(image.min(), image.max(), _LEVELS + 1)
    every, ours = (np.concatenate([[0], np.histogram(part, edges)[0].cumsum()]) for part in (image, image[white]))
    found, right = every[None] - every[:, None], ours[None] - ours[:, None]  # [low, high]
    score = np.where(found > 0, 2 * right / np.maximum(found + white.sum(), 1), 0)
    if one_sided:
        score[:, :-1] = 0
    low, high = np.unravel_index(score.argmax(), score.shape)
    return float(edges[low]), float(edges[high]), float(score[low, high])


def _range(training: Scan, held_out: Array) -> Array:
    low, high, _ = best_range(training.image, training.white)
    inside = (held_out > low) & (held_out < high)
    return np.stack([_largest(inside[:, index]) for index in range(inside.shape[1])], 1)


def _largest(mask: Array) -> Array:
    """The largest connected part of a mask."""
    parts, count = ndimage.label(mask)
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]) if count else mask


def _gaussian(training: Scan, held_out: Array) -> Array:
    """More likely white matter, where either class's intensities are a normal distribution."""
    likelihoods = []
    for part in (training.image[~training.white], training.image[training.white]):
        mean, variance = part.mean(dtype=np.float64), part.var(dtype=np.float64)
        likelihoods.append(np.log(part.size) - np.log(variance) / 2 - (held_out - mean) ** 2 / (2 * variance))
    return np.greater(likelihoods[1], likelihoods[0])


def _flattened(training: Scan, held_out: Array) -> Array:
    """A threshold of what is left when noise is smoothed and shading divided out, with the best filters."""
    best, found = -1.0, held_out > 0
    for fine in _DENOISE:
        for wide in _SURROUNDINGS:
            low, _, score = best_range(_relative(training.image, fine, wide), training.white, one_sided=True)
            if score > best:
                best, found = score, _relative(held_out, fine, wide) > low
    return found


def _relative(image: Array, fine: float, wide: float) -> Array:
    """Slices over their surroundings; 0.05 keeps air dark."""
    smooth, around = (ndimage.gaussian_filter(image, (sigma, 0, sigma)) for sigma in (fine, wide))
    return np.divide(smooth, around + 0.05)


def _position(training: Scan, held_out: Array) -> Array:
    """The same mask for every slice: where training slices have white matter often enough."""
    share = training.white.mean(1, dtype=np.float32, keepdims=True)
    low, _, _ = best_range(np.broadcast_to(share, training.white.shape), training.white, one_sided=True)
    return np.broadcast_to(share > low, held_out.shape)
