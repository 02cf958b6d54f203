"""Does it grow, stay and heal? The regeneration test as a command: a table, JSON, CSV and a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ncafast.files import write_text
from ncafast.tasks.growing import pictures
from ncafast.tasks.growing.config import EvaluateConfig
from ncafast.tasks.growing.healing import Course, grow, heal
from ncafast.tasks.growing.model_file import load_model
from ncafast.tasks.growing.states import CUTS, Cut
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import check_options
from ncafast.utils.outputs import check_folder, check_free, write_result
from ncafast.utils.progress import Bar, say
from ncafast.viz.figures import write_png

_FILES = ("healing.json", "steps.csv", "healing.png")
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


@dataclass(frozen=True, slots=True)
class Healing:
    """The regeneration test of one model."""

    empty_loss: float
    """Of an empty grid, to compare with."""
    grown_loss: float
    """After the longest growth that training took at once."""
    grown_steps: int
    before_cut: float
    """When the cuts are made."""
    cut_step: int
    heal_steps: int
    runs: int
    cuts: tuple[CutResult, ...]
    json: Path
    picture: Path

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


def evaluate(config: EvaluateConfig) -> Healing:
    """Grow, cut in five ways, let heal; print the table and write healing.json, steps.csv and healing.png.

    Raises:
        ValueError: options or a checkpoint that cannot be used.
    """
    check_options(config, grow=1, heal=1)
    check_folder("--output", config.output)
    check_free("--output", [config.output / name for name in _FILES], config.overwrite)
    trained = load_model(config.model, resolve_device(config.device))
    target = trained.target.tensor()
    steps, after = config.grow or 3 * trained.steps, config.heal or 2 * trained.steps
    bar = Bar(steps + len(CUTS) * after, 0, config.progress)
    bar.describe("growing and healing")
    options: dict[str, Any] = {"seed": config.seed, "advance": lambda count: bar.advance({}, count)}
    try:
        grown, losses = grow(trained.model, target, steps=steps, runs=config.runs, **options)
        courses = heal(trained.model, grown, target, cuts=CUTS, steps=after, **options)
    finally:
        bar.close()
    shortest = min(trained.steps, steps)
    result = Healing(
        empty_loss=float(target.square().mean()),
        grown_loss=losses[shortest],
        grown_steps=shortest,
        before_cut=losses[-1],
        cut_step=steps,
        heal_steps=len(courses[0].losses) - 1,
        runs=config.runs,
        cuts=tuple(judge(course, losses[-1]) for course in courses),
        json=config.output / "healing.json",
        picture=config.output / "healing.png",
    )
    facts = {key: value for key, value in asdict(result).items() if key not in ("json", "picture")}
    write_result(result.json, json.dumps({"model": str(trained.path), **facts}, indent=1))
    write_text(config.output / "steps.csv", _rows(losses, courses))
    shown = [(course.cut, course.states) for course in courses]
    lines: dict[str, Sequence[float]] = {course.cut: course.losses for course in courses}
    write_png(result.picture, pictures.healing(shown, losses, lines))
    for line in result.table().splitlines():
        say(line)
    return result


def judge(course: Course, before: float) -> CutResult:
    """The numbers of one cut, from the loss before it."""
    first, last = course.losses[0], course.losses[-1]
    harm = first - before
    half = next((step for step, loss in enumerate(course.losses) if loss <= before + harm / 2), None)
    # A cut that does no harm, since the model draws nothing there, leaves nothing to recover.
    recovered = (first - last) / harm if harm > 0 else 0.0
    healed = harm > 0 and last < first and last <= _HEALED * before
    return CutResult(course.cut, first, last, recovered, half if harm > 0 else None, healed)


def _rows(grown: list[float], courses: list[Course]) -> str:
    """One row per step: the loss of growth, and of every cut from its step on."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "grown", *(course.cut for course in courses)])
    cut = len(grown) - 1
    for step in range(cut + len(courses[0].losses)):
        own = [grown[step] if step <= cut else ""]
        writer.writerow([step, *own, *(course.losses[step - cut] if step >= cut else "" for course in courses)])
    return text.getvalue()
