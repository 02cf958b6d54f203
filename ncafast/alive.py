"""Alive: which cells of a step live, as part of a Rule. Data only."""

from __future__ import annotations

from dataclasses import dataclass

from ncafast.values import flag, number, odd, whole

_MAX_POOL = 63  # cells per axis of the alive mask's window


@dataclass(frozen=True)
class Alive:
    """Which cells live. Dead cells are set to zero in every channel.

    A cell lives when the largest value of `channel` in a window of `pool` cells per axis is above `threshold`, measured
    before the update (`pre`), after it (`post`), or both. Cells outside the grid never count. `pool` is odd, 1 to 63.
    """

    channel: int = 3
    threshold: float = 0.1
    pool: int = 3
    pre: bool = True
    post: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel", whole("alive.channel", self.channel, 0))
        object.__setattr__(self, "threshold", number("alive.threshold", self.threshold))
        object.__setattr__(self, "pool", odd("alive.pool", self.pool, _MAX_POOL))
        object.__setattr__(self, "pre", flag("alive.pre", self.pre))
        object.__setattr__(self, "post", flag("alive.post", self.post))
        if not (self.pre or self.post):
            raise ValueError("alive: pre and post are both off; use alive=None for no alive mask")
