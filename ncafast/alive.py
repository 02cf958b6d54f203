"""Alive: which cells of a step live, as part of a Rule. Data only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from ncafast.values import flag, number, odd, shown, whole

GATES = ("state", "update")
_LATER = ("wrap", "gates")  # fields that came after the first release
_MAX_POOL = 63  # cells per axis of the alive mask's window


@dataclass(frozen=True)
class Alive:
    """Which cells live. Dead cells are set to zero in every channel, or do not update.

    A cell lives when the largest value of `channel` in a window of `pool` cells per axis is above `threshold`, measured
    before the update (`pre`), after it (`post`), or both. `pool` is odd, 1 to 63.

    Cells outside the grid never count; with `wrap` the window goes on at the other side of the grid.

    `gates` is what the mask multiplies: the "state" after the update, or the "update", which leaves dead cells as they
    are and can be measured before it only.
    """

    channel: int = 3
    threshold: float = 0.1
    pool: int = 3
    pre: bool = True
    post: bool = True
    wrap: bool = False
    gates: str = "state"

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel", whole("alive.channel", self.channel, 0))
        object.__setattr__(self, "threshold", number("alive.threshold", self.threshold))
        object.__setattr__(self, "pool", odd("alive.pool", self.pool, _MAX_POOL))
        object.__setattr__(self, "pre", flag("alive.pre", self.pre))
        object.__setattr__(self, "post", flag("alive.post", self.post))
        object.__setattr__(self, "wrap", flag("alive.wrap", self.wrap))
        if self.gates not in GATES:
            raise ValueError(f"alive.gates={shown(self.gates)} is not allowed: choose one of {', '.join(GATES)}")
        if self.gates == "update" and self.post:
            raise ValueError("alive: gates='update' is measured before the update only; set post=False")
        if not (self.pre or self.post):
            raise ValueError("alive: pre and post are both off; use alive=None for no alive mask")

    def written(self) -> dict[str, Any]:
        """The fields for JSON, as `Rule.to_json` writes them: later ones only where they are not at their default."""
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if name not in _LATER or value != defaults[name]}
