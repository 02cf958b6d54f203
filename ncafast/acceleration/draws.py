"""The user's own random numbers, noted while a step runs, and what they are in the terms of a rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ncafast.acceleration.assemble import Match
from ncafast.acceleration.errors import NotAccelerated, counted
from ncafast.acceleration.firing import RANDOM
from ncafast.acceleration.units import kept, scaled


class Draws(TorchDispatchMode):
    """Keeps what random operations return, but for draws of hidden units, of which all stay."""

    def __init__(self, units: tuple[bool, ...]) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.units, self.count = units, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation."""
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in RANDOM:
            self.count += 1
            if any(self.units) and self.units[(self.count - 1) % len(self.units)]:
                return kept(name, out, args)
            self.seen.append(out.detach().clone())
        return out


def with_all_units(match: Match) -> Match:
    """The match when no unit is dropped, and all are divided by the probability that they stay, as by the user."""
    if not match.rule.hidden_dropout:
        return match
    rule, parameters = match.rule.replace(hidden_dropout=0.0), match.parameters
    return replace(match, rule=rule, parameters=lambda tensors: scaled(match.rule, parameters(tensors)))


def drawn_masks(match: Match, seen: list[Tensor], steps: int) -> Tensor | None:
    """The fire masks [steps, B, 1, *S] that the user's draws stand for, or None where every cell updates.

    Raises:
        NotAccelerated: the draws are not one mask for each step.
    """
    if match.firing is None:
        if seen:
            raise NotAccelerated("the module draws random numbers that do not reach the state")
        return None
    if len(seen) != steps:
        raise NotAccelerated(f"of {counted(steps)}, {len(seen)} draw a random mask; in a rule either all do or none")
    return torch.stack([match.firing.by_cell(match.firing.fires(draws.double())) for draws in seen])
