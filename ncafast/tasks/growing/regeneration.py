"""The results of the regeneration test: how the image grew, and what became of every cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ncafast.tasks.base import Trained
from ncafast.tasks.growing import pictures
from ncafast.tasks.growing.healing import Course, grow, heal
from ncafast.tasks.growing.options import EvaluateConfig
from ncafast.tasks.growing.states import CUTS
from ncafast.tasks.growing.target import Spec
from ncafast.tasks.report import Report
from ncafast.utils.progress import Bar


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
    cuts: Sequence[Course] = field(repr=False)
    grown: Sequence[float] = field(repr=False)
    """Of the seed and after every step up to the cut."""

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
        numbers = {name: value for name, value in vars(self).items() if name not in ("cuts", "grown")}
        names = ("cut", "cut_loss", "healed_loss", "recovered", "steps_to_half", "healed")
        cuts = [{name: getattr(cut, name) for name in names} for cut in self.cuts]
        return {
            "healing.json": {**numbers, "cuts": cuts},
            "steps.csv": self._steps(),
            "healing.png": pictures.healing(self.cuts, self.grown),
        }

    def _steps(self) -> list[dict[str, Any]]:
        """A row per step: the loss of growth, and of every cut from its step on."""
        cut = self.cut_step
        return [
            {
                "step": step,
                "grown": self.grown[step] if step <= cut else "",
                **{course.cut: course.losses[step - cut] if step >= cut else "" for course in self.cuts},
            }
            for step in range(cut + self.heal_steps + 1)
        ]


def regenerate(trained: Trained[Spec], options: EvaluateConfig) -> Healing:
    """Grow, cut in five ways, let heal."""
    target, longest = trained.spec.target.tensor(), trained.spec.longest
    steps, after = options.grow or 3 * longest, options.heal or 2 * longest
    with Bar(steps + len(CUTS) * after, options.progress, "growing and healing") as bar:
        shared: dict[str, Any] = {"seed": options.seed, "bar": bar}
        grown, losses = grow(trained.model, target, steps=steps, runs=options.runs, **shared)
        courses = heal(trained.model, grown, target, cuts=CUTS, steps=after, **shared)
    shortest = min(longest, steps)
    return Healing(
        model=str(trained.path),
        empty_loss=float(target.square().mean()),
        grown_loss=losses[shortest],
        grown_steps=shortest,
        before_cut=losses[-1],
        cut_step=steps,
        heal_steps=after,
        runs=options.runs,
        cuts=courses,
        grown=losses,
    )
