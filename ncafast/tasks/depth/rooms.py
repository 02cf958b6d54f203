"""Rendered rooms with balls and fog, how far everything in them is and what is a ball: data where there are none."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

_VIEW = 0.6  # tangent of half the angle of view along the longer side
_TILE = 0.5  # metres


class _Hit(NamedTuple):
    """Where rays meet a surface."""

    distance: Array  # [H, W], in lengths of the ray; infinite where it misses
    normal: Array  # [H, W, 3] or [3]
    colour: Array  # [H, W, 3] or [3]


class Room(NamedTuple):
    """A rendered room."""

    image: Array  # [H, W, 3] uint8
    depth: Array  # [H, W] float32, metres along the axis of the camera
    balls: Array  # [H, W] bool


def room(random: np.random.Generator, height: int, width: int) -> Room:
    """A room drawn by chance.

    The camera stands in a room of 3 to 5 by 4 to 9 metres with tiled walls, looks at one of them, and is tilted a
    little. Balls lie on the floor. Fog makes what is far paler; how thick it is differs from room to room.
    """
    rays, forward = _rays(random, height, width)
    low = -np.array([random.uniform(1.2, 2.5), random.uniform(1.1, 1.8), 1.0])  # corners of the room, from the camera
    high = np.array([random.uniform(1.2, 2.5), random.uniform(0.8, 1.6), random.uniform(3.0, 8.0)])
    hits = [_plane(random, rays, axis, side[axis]) for side in (low, high) for axis in range(3)]
    walls = len(hits)
    hits += [_ball(random, rays, low, high) for _ in range(random.integers(2, 7))]
    nearest = np.argmin([hit.distance for hit in hits], axis=0)[..., None]  # [H, W, 1]
    distance = np.take_along_axis(np.stack([hit.distance for hit in hits], -1), nearest, -1)
    normal, colour = np.zeros_like(rays), np.zeros_like(rays)
    for number, hit in enumerate(hits):
        normal, colour = (
            np.where(nearest == number, hit.normal, normal),
            np.where(nearest == number, hit.colour, colour),
        )
    light = _unit(np.array([random.uniform(-1, 1), 1.5, random.uniform(-1.5, 0)]))
    shade = 0.55 + 0.45 * (normal @ light)[..., None]
    clear = np.exp(-random.uniform(0.08, 0.16) * distance)
    image = clear * shade * colour + (1 - clear) * random.uniform(0.75, 0.9) + random.normal(0, 0.01, rays.shape)
    depth = distance * (rays @ forward)[..., None]
    pixels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return Room(pixels, depth[..., 0].astype(np.float32), nearest[..., 0] >= walls)


def _rays(random: np.random.Generator, height: int, width: int) -> tuple[Array, Array]:
    """Unit vectors [H, W, 3] through the pixels' centres (right, up, ahead), and the axis of the camera [3]."""
    rows, columns = ((np.arange(side) + 0.5 - side / 2) * 2 * _VIEW / max(height, width) for side in (height, width))
    down, right = np.meshgrid(rows, columns, indexing="ij")
    tilt, turn = random.uniform(-0.15, 0.1), random.uniform(-0.25, 0.25)  # radians
    up_down = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    left_right = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    camera = left_right @ up_down
    return _unit(np.stack([right, -down, np.ones_like(right)], -1) @ camera.T), camera[:, 2]


def _plane(random: np.random.Generator, rays: Array, axis: int, at: float) -> _Hit:
    """The wall, floor or ceiling where a coordinate has a value, with tiles in two shades."""
    with np.errstate(divide="ignore"):
        distance = at / rays[..., axis]
    distance = np.where(distance > 0, distance, np.inf)
    across = [other for other in range(3) if other != axis]
    place = np.where(np.isfinite(distance), distance, 0)[..., None] * rays[..., across]
    tiles = np.floor(place / _TILE).sum(-1) % 2
    normal = np.zeros(3)
    normal[axis] = -np.sign(at)
    colour = random.uniform(0.3, 0.9) * random.uniform(0.75, 1, 3)
    return _Hit(distance, normal, colour * (1 - random.uniform(0.1, 0.35) * tiles[..., None]))


def _ball(random: np.random.Generator, rays: Array, low: Array, high: Array) -> _Hit:
    """A ball on the floor of the room between two corners, ahead of the camera."""
    radius = random.uniform(0.2, 0.6)
    centre = np.array([random.uniform(low[0], high[0]), low[1] + radius, random.uniform(1.5, high[2])])
    along = rays @ centre
    below = along**2 - centre @ centre + radius**2  # of the root
    distance = np.where(below > 0, along - np.sqrt(np.maximum(below, 0)), np.inf)
    distance = np.where(distance > 0, distance, np.inf)
    met = np.where(np.isfinite(distance), distance, 0)[..., None] * rays
    return _Hit(distance, (met - centre) / radius, random.uniform(0.2, 1, 3))


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)
