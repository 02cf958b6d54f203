"""Rendered rooms: their depth is that of flat walls and round balls, their files are what training reads; SSIM."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from ncafast.tasks.depth import RenderConfig, TrainConfig, render
from ncafast.tasks.depth.data import find_pairs, read_pair
from ncafast.tasks.depth.metrics import similarity
from ncafast.tasks.depth.recipe import Recipe
from ncafast.tasks.depth.rooms import _VIEW, room
from ncafast.tasks.images import Reading


def points(depth: np.ndarray) -> np.ndarray:
    """Where the pixels are, [H, W, 3] metres from the camera: right, down, ahead."""
    height, width = depth.shape
    y, x = np.mgrid[:height, :width] + 0.5
    scale = 2 * _VIEW / max(height, width)
    across = np.stack([(x - width / 2) * scale, (y - height / 2) * scale, np.ones_like(x)], -1)
    return across * depth[..., None].astype(np.float64)


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_walls_stand_at_right_angles_and_what_else_there_is_is_round(seed):
    _, depth, balls = room(np.random.default_rng(seed), 90, 121)
    places = points(depth)
    normals = unit(np.cross(places[1:-1, 2:] - places[1:-1, :-2], places[2:, 1:-1] - places[:-2, 1:-1]))
    bends = normals[1:-1, 1:-1, None] @ normals[1:-1, :-2, :, None]
    flat = normals[1:-1, 1:-1][bends[..., 0, 0] > 1 - 1e-6]  # [n, 3]
    assert len(flat) > 0.5 * bends.size
    first = flat[0]
    second = next(normal for normal in flat if abs(normal @ first) < 0.5)
    axes = np.stack([first, second, np.cross(first, second)])
    assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-3)
    assert np.mean(np.abs(flat @ axes.T).max(1) > 1 - 1e-4) > 0.98
    inside = places[2:-2, 2:-2][bends[..., 0, 0] < 1 - 1e-5]
    assert len(inside) > 50  # of balls and edges
    round_ones = bends[..., 0, 0] < 1 - 1e-6
    assert round_ones[binary_erosion(balls, iterations=3)[2:-2, 2:-2]].mean() > 0.95
    assert round_ones[~binary_dilation(balls, iterations=3)[2:-2, 2:-2]].mean() < 0.1  # edges


def test_far_things_are_paler():
    shares = []
    for seed in range(8):
        pixels, depth, _ = room(np.random.default_rng(seed), 48, 64)
        spread = pixels.max(-1).astype(float) - pixels.min(-1)  # of the colours
        near, far = np.percentile(depth, (30, 70))
        shares.append(spread[depth > far].mean() / spread[depth < near].mean())
    assert np.mean(shares) < 0.9


def test_rooms_are_read_as_they_were_rendered_and_do_not_depend_on_their_number(tmp_path, capsys):
    config = RenderConfig(tmp_path / "rooms", count=3, size=(21, 26), seed=4, progress=False)
    assert render(config) == tmp_path / "rooms"
    assert "3 rooms" in capsys.readouterr().out
    options = TrainConfig(data=config.output)
    first, *rest = (read_pair(pair, Recipe(), Reading(), options) for pair in find_pairs(options).pairs)
    assert len(rest) == 2 and first.pixels.shape == (21, 26, 3) and 0.3 < first.depth.min() < first.depth.max() < 12
    render(dataclasses.replace(config, count=5))
    again = read_pair(find_pairs(options).pairs[0], Recipe(), Reading(), options)
    assert again.checksum == first.checksum and first.checksum != rest[0].checksum
    with pytest.raises(ValueError, match=r"0003.png would be taken for one of the rooms; give another folder"):
        render(config)
    with pytest.raises(ValueError, match=r"size=\(8, 40\) is not allowed; give whole numbers from 16 to 4096"):
        render(dataclasses.replace(config, size=(8, 40)))


def test_similarity_is_the_published_formula():
    random = np.random.default_rng(0)
    true = random.uniform(1, 5, (23, 31)).astype(np.float32)
    found = true + random.normal(0, 0.4, true.shape).astype(np.float32)
    unknown = random.random(true.shape) < 0.2
    span = float(true[~unknown].max() - true[~unknown].min())

    def near(plane):
        return gaussian_filter(plane, 1.5, radius=5, mode="mirror")

    x, y = found.astype(float), np.where(unknown, found, true).astype(float)
    mx, my = near(x), near(y)
    vx, vy, both = near(x * x) - mx**2, near(y * y) - my**2, near(x * y) - mx * my
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    wanted = (2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert similarity(found, np.where(unknown, np.nan, true)) == pytest.approx(wanted.mean(), abs=2e-3)
    assert similarity(true, true) == pytest.approx(1, abs=1e-6)
    assert math.isnan(similarity(true[:5], true[:5])) and math.isnan(similarity(true, np.full_like(true, np.nan)))
