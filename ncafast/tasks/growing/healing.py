"""The regeneration test: grow, cut a part away, and follow the loss while the automaton is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ncafast.models import GrowingNCA
from ncafast.tasks.growing.states import Cut, cut_away, pixel_loss, seed_states
from ncafast.utils.progress import Bar
from ncafast.utils.seeds import mix

_HEALED = 2.0  # a cut has healed when the loss is at most this many times what it was before the cut
_SILENT = Bar(0, wanted=False)


@dataclass(frozen=True, slots=True)
class Course:
    """What one cut came to. Losses are means over the runs."""

    cut: Cut
    before: float
    """The loss before the cut."""
    losses: tuple[float, ...]
    """Right after the cut, and after every further step."""
    states: Tensor
    """Of the first run: before the cut, right after it, and at the end, [3, C, H, W]."""

    @property
    def cut_loss(self) -> float:
        """Right after the cut."""
        return self.losses[0]

    @property
    def healed_loss(self) -> float:
        """After the steps given for healing."""
        return self.losses[-1]

    @property
    def harm(self) -> float:
        """By how much the cut raised the loss; not above 0 where the model draws nothing."""
        return self.cut_loss - self.before

    @property
    def recovered(self) -> float:
        """Part of the damage that is made good: 1 is as before the cut, 0 is no better than right after it."""
        return (self.cut_loss - self.healed_loss) / self.harm if self.harm > 0 else 0.0

    @property
    def steps_to_half(self) -> int | None:
        """Steps until half of the damage is made good; None if that never happens."""
        half = self.before + self.harm / 2
        return next((step for step, loss in enumerate(self.losses) if self.harm > 0 and loss <= half), None)

    @property
    def healed(self) -> bool:
        """Whether the loss fell, to at most twice what it was before the cut."""
        return self.harm > 0 and self.healed_loss < self.cut_loss and self.healed_loss <= _HEALED * self.before

    @property
    def verdict(self) -> str:
        """What became of it, in words."""
        if self.healed:
            return "healed"
        if self.steps_to_half is None and self.recovered == 0:
            return "no change"
        return "got worse" if self.recovered < 0 else "not healed"


def run_states(
    model: GrowingNCA,
    states: Tensor,  # [B, C, H, W]
    steps: int,
    seed: int,
    every: int = 1,
) -> Tensor:  # [steps // every, B, C, H, W]
    """Every k-th state of a run, without gradients."""
    with torch.no_grad():
        _, kept = model(states.movedim(1, -1), steps, seed=seed, states=every)
    return kept.movedim(-1, 2)


def grow(
    model: GrowingNCA, target: Tensor, *, steps: int, runs: int, seed: int, bar: Bar = _SILENT
) -> tuple[Tensor, list[float]]:
    """Grow from the seed.

    Args:
        model: on any device.
        target: [4, H, W].
        steps: of the automaton, at least 1.
        runs: how many to grow.
        seed: of the firing cells.
        bar: counts the steps.

    Returns:
        The states [runs, C, H, W], and the mean loss of the seed and after every step.
    """
    device = next(model.parameters()).device
    target = target.to(device)
    states = seed_states(runs, model.channel_n, *target.shape[-2:]).to(device)
    losses = [float(pixel_loss(states, target).mean())]
    return _follow(model, states, target, steps, mix("grow", seed), losses, bar)


def heal(
    model: GrowingNCA,
    grown: Tensor,
    target: Tensor,
    *,
    cuts: Sequence[Cut],
    steps: int,
    seed: int,
    bar: Bar = _SILENT,
) -> list[Course]:
    """Cut grown states [runs, C, H, W] in each of several ways, and let each go on for `steps` steps."""
    target = target.to(grown.device)
    before, courses = float(pixel_loss(grown, target).mean()), []
    for cut in cuts:
        hurt = cut_away(grown, cut, target)
        losses = [float(pixel_loss(hurt, target).mean())]
        healed, losses = _follow(model, hurt, target, steps, mix("heal", cut, seed), losses, bar)
        courses.append(Course(cut, before, tuple(losses), torch.stack((grown[0], hurt[0], healed[0])).cpu()))
    return courses


def _follow(
    model: GrowingNCA, states: Tensor, target: Tensor, steps: int, seed: int, losses: list[float], bar: Bar
) -> tuple[Tensor, list[float]]:
    """The states after `steps` steps; the loss after every one is added to `losses`."""
    done, part = 0, 64  # states kept at a time, so that long runs need no more memory than short ones
    while done < steps:
        kept = run_states(model, states, min(part, steps - done), mix(seed, done))
        losses += pixel_loss(kept, target).mean(-1).tolist()
        states, done = kept[-1], done + len(kept)
        bar.advance({}, len(kept))
    return states, losses
