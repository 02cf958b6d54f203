"""The results of the regeneration test: how the image grew, and what became of every cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ncafast.models import GrowingNCA
from ncafast.tasks.growing import pictures
from ncafast.tasks.growing.healing import Course, grow, heal
from ncafast.tasks.growing.options import EvaluateConfig
from ncafast.tasks.growing.states import CUTS, Cut
from ncafast.tasks.report import Report
from ncafast.utils.progress import Bar

_HEALED = 2.0  # a cut has healed when the loss is at most this many times what it was before the cut


@dataclass(frozen=True, slots=True)
class CutResult:
    """What one way of cutting came to; losses are means over the runs."""

    cut: Cut
    cut_loss: float
    """Right after the cut."""
    healed_loss: float
    """After the steps given for healing."""
    recovered: float
    """Part of the damage that is made good: 1 is as before the cut, 0 is no better than right after it."""
    steps_to_half: int | None
    """Steps until half of the damage is made good; None if that never happens."""
    healed: bool
    """Whether the loss fell, to at most twice what it was before the cut."""

    @property
    def verdict(self) -> str:
        """What became of it, in words."""
        if self.healed:
            return "healed"
        if self.steps_to_half is None and self.recovered == 0:
            return "no change"
        return "got worse" if self.recovered < 0 else "not healed"


@dataclass(frozen=True)
class Healing(Report):
    """The regeneration test of one model. Losses are means over the runs."""

    model: str
    """The checkpoint."""
    empty_loss: float
    """Of an empty grid, to compare with."""
    grown_loss: float
    """After the longest training rollout."""
    grown_steps: int
    before_cut: float
    """When the cuts are made."""
    cut_step: int
    heal_steps: int
    runs: int
    cuts: tuple[CutResult, ...]
    grown: Sequence[float] = field(repr=False)
    """Of the seed and after every step up to the cut."""
    courses: Sequence[Course] = field(repr=False)

    @property
    def json(self) -> Path:
        """The file with all numbers."""
        return self.folder / "healing.json"

    @property
    def picture(self) -> Path:
        """The file with the states and curves."""
        return self.folder / "healing.png"

    def table(self) -> str:
        """The numbers as text in columns."""
        head = (
            f"empty grid {self.empty_loss:.5f}; grown after {self.grown_steps} steps {self.grown_loss:.5f}, "
            f"after {self.cut_step} steps {self.before_cut:.5f}"
        )
        names = f"{'cut away':<10}{'loss cut':>10}{f'+{self.heal_steps} steps':>12}{'recovered':>11}{'half at':>9}"
        lines = [head, names, "-" * len(names)]
        for cut in self.cuts:
            half = "never" if cut.steps_to_half is None else f"+{cut.steps_to_half}"
            share = f"{100 * cut.recovered:.1f} %"
            numbers = f"{cut.cut_loss:>10.5f}{cut.healed_loss:>12.5f}{share:>11}{half:>9}"
            lines.append(f"{cut.cut:<10}{numbers}  {cut.verdict}")
        return "\n".join(lines)

    def contents(self) -> dict[str, Any]:
        """All numbers, the losses by step, and the picture."""
        numbers = {name: value for name, value in vars(self).items() if name not in ("grown", "courses")}
        lines: dict[str, Sequence[float]] = {course.cut: course.losses for course in self.courses}
        shown = [(course.cut, course.states) for course in self.courses]
        return {
            "healing.json": {**numbers, "cuts": [asdict(cut) for cut in self.cuts]},
            "steps.csv": self._steps(lines),
            "healing.png": pictures.healing(shown, self.grown, lines),
        }

    def _steps(self, lines: dict[str, Sequence[float]]) -> list[dict[str, Any]]:
        """A row per step: the loss of growth, and of every cut from its step on."""
        cut = len(self.grown) - 1
        return [
            {
                "step": step,
                "grown": self.grown[step] if step <= cut else "",
                **{name: losses[step - cut] if step >= cut else "" for name, losses in lines.items()},
            }
            for step in range(cut + self.heal_steps + 1)
        ]


def regenerate(model: GrowingNCA, path: Path, target: Tensor, longest: int, options: EvaluateConfig) -> Healing:
    """Grow, cut in five ways, let heal.

    Args:
        model: on any device.
        path: its checkpoint, for the report.
        target: [4, H, W].
        longest: steps of the longest training rollout.
        options: see `EvaluateConfig`.
    """
    steps, after = options.grow or 3 * longest, options.heal or 2 * longest
    with Bar(steps + len(CUTS) * after, options.progress, "growing and healing") as bar:
        shared: dict[str, Any] = {"seed": options.seed, "advance": lambda count: bar.advance({}, count)}
        grown, losses = grow(model, target, steps=steps, runs=options.runs, **shared)
        courses = heal(model, grown, target, cuts=CUTS, steps=after, **shared)
    shortest = min(longest, steps)
    return Healing(
        model=str(path),
        empty_loss=float(target.square().mean()),
        grown_loss=losses[shortest],
        grown_steps=shortest,
        before_cut=losses[-1],
        cut_step=steps,
        heal_steps=after,
        runs=options.runs,
        cuts=tuple(judge(course, losses[-1]) for course in courses),
        grown=losses,
        courses=courses,
    )


def judge(course: Course, before: float) -> CutResult:
    """The numbers of one cut, from the loss before it."""
    first, last = course.losses[0], course.losses[-1]
    harm = first - before
    half = next((step for step, loss in enumerate(course.losses) if loss <= before + harm / 2), None)
    # A cut that does no harm, since the model draws nothing there, leaves nothing to recover.
    recovered = (first - last) / harm if harm > 0 else 0.0
    healed = harm > 0 and last < first and last <= _HEALED * before
    return CutResult(course.cut, first, last, recovered, half if harm > 0 else None, healed)
