"""Overlap and distance of masks against numbers worked out by hand and against torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.distance import cdist
from torchmetrics.functional.segmentation import hausdorff_distance

from ncafast.losses.masks import dice, hausdorff, iou


def _box(*ranges: slice, shape: tuple[int, int, int] = (8, 9, 10)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[ranges] = True
    return mask


def test_overlap_by_hand():
    a = _box(slice(1, 3), slice(1, 3), slice(1, 3))  # 8 voxels
    b = _box(slice(2, 5), slice(1, 3), slice(1, 3))  # 12 voxels, 4 of them in common
    assert dice(a, b) == pytest.approx(8 / 20)
    assert iou(a, b) == pytest.approx(4 / 16)
    assert dice(a, a) == iou(a, a) == 1


def test_distance_by_hand():
    a, b = _box(slice(2, 3), slice(2, 3), slice(2, 3)), _box(slice(5, 6), slice(4, 5), slice(2, 3))
    assert hausdorff(a, b, (1, 1, 1)) == pytest.approx(math.sqrt(13))
    assert hausdorff(a, b, (2, 0.5, 9)) == pytest.approx(math.sqrt(36 + 1))
    assert hausdorff(a, a, (1, 1, 1)) == 0


def test_distance_takes_the_percentile_of_the_worse_direction():
    line = _box(slice(0, 1), slice(0, 1), slice(0, 10))
    far = line.copy()
    far[7, 0, 9] = True  # one of 11 voxels lies 7 away, the others on the line
    expected = np.percentile([0.0] * 10 + [7.0], 95)
    assert hausdorff(far, line, (1, 1, 1)) == pytest.approx(expected)
    assert hausdorff(line, far, (1, 1, 1)) == pytest.approx(expected)
    assert hausdorff(line, far, (1, 1, 1), percentile=100) == pytest.approx(7)


def test_distance_of_one_slice_agrees_with_torchmetrics():
    random = np.random.default_rng(0)
    for _ in range(5):
        a, b = (random.random((1, 13, 13)) < 0.3 for _ in range(2))
        masks = (torch.from_numpy(m).int()[None] for m in (a, b))
        theirs = hausdorff_distance(*masks, num_classes=1, include_background=True, spacing=[3.0, 0.5])
        ours = hausdorff(a, b, (9.0, 3.0, 0.5), percentile=100)
        assert ours == pytest.approx(theirs.item(), rel=1e-5)


def _surface_points(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """By the definition: voxels one of whose six neighbours is not in the mask, in mm."""
    points = set(map(tuple, np.argwhere(mask)))
    steps = [tuple(sign * np.eye(3, dtype=int)[k]) for k in range(3) for sign in (1, -1)]
    edge = [p for p in points if any(tuple(np.add(p, s)) not in points for s in steps)]
    return np.array(edge) * spacing


def test_distance_agrees_with_the_definition():
    random = np.random.default_rng(1)
    for percentile in (50, 95, 100):
        masks = [ndimage.binary_opening(random.random((9, 8, 7)) < 0.9) for _ in range(2)]
        spacing = (3.0, 1.0, 0.5)
        gaps = cdist(*(_surface_points(mask, spacing) for mask in masks))
        expected = max(np.percentile(gaps.min(axis), percentile) for axis in (0, 1))
        assert hausdorff(*masks, spacing, percentile=percentile) == pytest.approx(expected)
        assert expected > 0


def test_inside_of_a_body_is_no_surface():
    # Seen from the shell, a hole in the middle of the other body is not there: only surfaces count.
    solid = _box(slice(1, 8), slice(1, 8), slice(1, 8), shape=(9, 9, 9))
    shrunk = _box(slice(2, 7), slice(2, 7), slice(2, 7), shape=(9, 9, 9))
    assert hausdorff(solid, shrunk, (1, 1, 1), percentile=100) == pytest.approx(math.sqrt(3))


def test_empty_masks():
    empty, full = _box(slice(0)), _box(slice(2, 3))
    assert (dice(empty, empty), iou(empty, empty), hausdorff(empty, empty, (1, 1, 1))) == (1, 1, 0)
    diagonal = math.sqrt((7 * 1) ** 2 + (8 * 2) ** 2 + (9 * 3) ** 2)
    for a, b in ((empty, full), (full, empty)):
        assert (dice(a, b), iou(a, b)) == (0, 0)
        assert hausdorff(a, b, (1, 2, 3)) == pytest.approx(diagonal)


def test_a_picture_is_a_volume_of_one_slice():
    random = np.random.default_rng(2)
    a, b = (random.random((9, 8)) < 0.3 for _ in range(2))
    assert hausdorff(a, b, (3.0, 0.5)) == hausdorff(a[None], b[None], (9.0, 3.0, 0.5))
