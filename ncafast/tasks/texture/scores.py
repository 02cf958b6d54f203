"""Measuring a trained texture: how far it is from its sample over time, whether it lasts, how strongly it moves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ncafast.tasks.base import Trained
from ncafast.tasks.images import Reading
from ncafast.tasks.report import Report
from ncafast.tasks.texture import pictures
from ncafast.tasks.texture.loss import choose, make_loss
from ncafast.tasks.texture.loss.vgg import unavailable
from ncafast.tasks.texture.measure import distance, motion, states_at
from ncafast.tasks.texture.motion import make_flow
from ncafast.tasks.texture.options import EvaluateConfig
from ncafast.tasks.texture.recipe import Recipe, picture_of
from ncafast.tasks.texture.sample import read_sample
from ncafast.utils.option_checks import refused
from ncafast.utils.progress import Bar, note
from ncafast.viz import rgb


@dataclass(frozen=True)
class Scores(Report):
    """Distances from the sample over time, and how strongly the texture moves."""

    rows: tuple[dict[str, float], ...]
    """steps, and one column per loss: the distance from the sample after so many steps."""
    motion: float
    """Motion strength, in pixels per frame."""
    trained_with: str
    """The loss of the training run; a column of the rows, unless its weights are not here."""
    options: EvaluateConfig = field(repr=False)
    shown: pictures.Array = field(repr=False)
    """The sample and the textures."""

    def table(self) -> str:
        """The rows as text in columns, and under them the loss that it was trained with and the motion strength."""
        names = list(self.rows[0])
        lines = ["  ".join(f"{name:>10}" for name in names)]
        for row in self.rows:
            lines.append("  ".join(f"{row[name]:>10.5g}" for name in names))
        measured = "" if self.trained_with in names else ", which is not measured here"
        lines.append(f"trained with the loss {self.trained_with}{measured}")
        return "\n".join([*lines, f"motion strength: {self.motion:.3f} pixels per frame"])

    def contents(self) -> dict[str, Any]:
        """The distances by step, all numbers, and the pictures."""
        measured = {name: getattr(self.options, name) for name in ("flow", "frames", "steps_per_frame", "size")}
        numbers = {"distances": self.rows, "trained_with": self.trained_with, "motion_strength": self.motion}
        files = {"scores.csv": self.rows, "scores.json": numbers | measured, "texture.png": self.shown}
        later = [row for row in self.rows if row["steps"] > 0]  # the picture's axis is logarithmic
        if later:
            distances = {name: [row[name] for row in later] for name in self.rows[0] if name != "steps"}
            files["distance.png"] = pictures.over_time([int(row["steps"]) for row in later], distances)
        return files


def score(trained: Trained[Recipe], options: EvaluateConfig) -> Scores:
    """Grow the texture from zeros, compare it with its sample, and measure its motion.

    Raises:
        ValueError: a sample or a size that cannot be used.
    """
    device = next(trained.model.parameters()).device
    flow = make_flow(options.flow, options.flow_weights, device)
    image = options.image or Path(trained.spec.image)
    if options.image is None and not image.is_file():
        raise ValueError(f"the sample {image} of {trained.path} is not there any more; give it with --image")
    reading = Reading(options.value_range or trained.spec.value_range, options.max_pixels)
    sample = read_sample(image, trained.spec.size, trained.spec.crop, reading)
    kinds = {"patches": choose("patches", None)}
    if choose("auto", options.weights)[1] is not None:
        kinds |= {kind: choose(kind, options.weights) for kind in ("sliced", "gram")}
    _check_loss(trained.spec.loss, kinds)
    losses = {name: make_loss(sample, *kind).to(device) for name, kind in kinds.items()}
    least = max(loss.least_side for loss in losses.values())
    if min(options.size) < least:
        raise refused("size", options.size, f"{', '.join(losses)} need a height and a width from {least}")
    steps = sorted(set(options.at))
    rows: list[dict[str, float]] = []
    shown = [rgb(sample)]
    with Bar(steps[-1], options.progress, "growing") as bar:
        for number, state in zip(steps, states_at(trained.model, options.size, steps, options.seed), strict=True):
            bar.advance({}, number - int(rows[-1]["steps"] if rows else 0))
            rows.append(
                {"steps": number} | {name: distance(loss, state, options.seed) for name, loss in losses.items()}
            )
            shown.append(rgb(picture_of(state)[0]))
    frames = {"frames": options.frames, "steps_per_frame": options.steps_per_frame, "seed": options.seed}
    strength = motion(trained.model, options.size, flow, start=steps[-1], progress=options.progress, **frames)
    row = pictures.side_by_side(shown, ["sample", *(f"after {number} steps" for number in steps)])
    return Scores(tuple(rows), strength, trained.spec.loss, options, row)


def _check_loss(trained_with: str, measured: Collection[str]) -> None:
    """Say where the loss of the training run is not among those that are measured."""
    if trained_with in measured:
        return
    advice = "this version has no such loss"
    if trained_with in ("sliced", "gram"):
        advice = unavailable() or "there are no VGG16 weights in torch's cache: give the file with --weights"
    note(
        f"the texture was trained with the loss {trained_with}, which is not measured ({advice}); "
        f"the distances below are of {', '.join(measured)} alone"
    )
