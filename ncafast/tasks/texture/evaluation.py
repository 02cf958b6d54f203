"""Measuring a trained texture: how far it is from its sample over time, whether it lasts, how strongly it moves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncafast.files import write_text
from ncafast.tasks.images import Reading
from ncafast.tasks.texture import pictures
from ncafast.tasks.texture.animation import check_size
from ncafast.tasks.texture.config import EvaluateConfig
from ncafast.tasks.texture.loss import choose, make_loss
from ncafast.tasks.texture.loss.vgg import unavailable
from ncafast.tasks.texture.measure import MOTION, distance, motion, states_at
from ncafast.tasks.texture.model_file import load_texture, picture_of
from ncafast.tasks.texture.motion import make_flow
from ncafast.tasks.texture.sample import read_sample
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import check_options, refused
from ncafast.utils.outputs import check_folder, check_free, write_result
from ncafast.utils.progress import Bar, say
from ncafast.viz.figures import write_png

_FILES = ("scores.csv", "scores.json", "texture.png", "distance.png")


@dataclass(frozen=True, slots=True)
class Scores:
    """What was measured."""

    rows: tuple[dict[str, float], ...]
    """steps, and one column per loss: the distance from the sample after so many steps."""
    motion: float
    """Motion strength, in pixels per frame."""
    folder: Path
    trained_with: str
    """The loss of the training run; a column of the rows, unless its weights are not here."""

    def table(self) -> str:
        """The rows as text in columns, and under them the loss that it was trained with and the motion strength."""
        names = list(self.rows[0])
        lines = ["  ".join(f"{name:>10}" for name in names)]
        for row in self.rows:
            lines.append("  ".join(f"{row[name]:>10.5g}" for name in names))
        measured = "" if self.trained_with in names else ", which is not measured here"
        lines.append(f"trained with the loss {self.trained_with}{measured}")
        return "\n".join([*lines, f"motion strength: {self.motion:.3f} pixels per frame"])


def evaluate(config: EvaluateConfig) -> Scores:
    """Grow the texture from nothing, compare it with its sample, print the table, write scores and pictures.

    Raises ValueError for a checkpoint, a sample or options that cannot be used.
    """
    check_options(config, at=0, **MOTION)
    check_size(config.size)
    check_folder("--output", config.output)
    check_free("--output", [config.output / name for name in _FILES], config.overwrite)
    if not config.at:
        raise refused("at", config.at, "give whole numbers from 0")
    device = resolve_device(config.device)
    trained = load_texture(config.model, device)
    flow = make_flow(config.flow, config.flow_weights, device)
    image = config.image or Path(trained.recipe.image)
    if config.image is None and not image.is_file():
        raise ValueError(f"the sample {image} of {trained.path} is not there any more; give it with --image")
    reading = Reading(config.value_range or trained.recipe.value_range, config.max_pixels)
    sample = read_sample(image, trained.recipe.size, trained.recipe.crop, reading)
    kinds = {"patches": choose("patches", None)}
    if choose("auto", config.weights)[1] is not None:
        kinds |= {kind: choose(kind, config.weights) for kind in ("sliced", "gram")}
    _check_loss(trained.recipe.loss, kinds)
    losses = {name: make_loss(sample, *kind).to(device) for name, kind in kinds.items()}
    least = max(loss.least_side for loss in losses.values())
    if min(config.size) < least:
        raise refused("size", config.size, f"{', '.join(losses)} need a height and a width from {least}")
    steps = sorted(set(config.at))
    rows: list[dict[str, float]] = []
    shown = [pictures.pixels(sample)]
    bar = Bar(steps[-1], 0, config.progress)
    bar.describe("growing")
    try:
        for number, state in zip(steps, states_at(trained.model, config.size, steps, config.seed), strict=True):
            bar.advance({}, number - int(rows[-1]["steps"] if rows else 0))
            rows.append({"steps": number} | {name: distance(loss, state, config.seed) for name, loss in losses.items()})
            shown.append(pictures.pixels(picture_of(state)[0]))
    finally:
        bar.close()
    options = {"frames": config.frames, "steps_per_frame": config.steps_per_frame, "seed": config.seed}
    strength = motion(trained.model, config.size, flow, settle=steps[-1], progress=config.progress, **options)
    scores = Scores(tuple(rows), strength, config.output, trained.recipe.loss)
    _write(scores, config, losses)
    row = pictures.side_by_side(shown, ["sample", *(f"after {number} steps" for number in steps)])
    write_png(config.output / "texture.png", row)
    for line in scores.table().splitlines():
        say(line)
    return scores


def _check_loss(trained_with: str, measured: Collection[str]) -> None:
    """Say where the loss of the training run is not among those that are measured."""
    if trained_with in measured:
        return
    advice = "this version has no such loss"
    if trained_with in ("sliced", "gram"):
        advice = unavailable() or "there are no VGG16 weights in torch's cache: give the file with --weights"
    say(
        f"note: the texture was trained with the loss {trained_with}, which is not measured ({advice}); "
        f"the distances below are of {', '.join(measured)} alone"
    )


def _write(scores: Scores, config: EvaluateConfig, losses: dict[str, Any]) -> None:
    """scores.csv, scores.json and the distances as a picture."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(scores.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(scores.rows)
    write_text(config.output / "scores.csv", text.getvalue())
    content = {
        "distances": scores.rows,
        "trained_with": scores.trained_with,
        "motion_strength": scores.motion,
        "flow": config.flow,
        "frames": config.frames,
        "steps_per_frame": config.steps_per_frame,
        "size": config.size,
    }
    write_result(config.output / "scores.json", json.dumps(content, indent=1))
    later = [row for row in scores.rows if row["steps"] > 0]  # the picture's axis is logarithmic
    if later:
        distances = {name: [row[name] for row in later] for name in losses}
        steps = [int(row["steps"]) for row in later]
        write_png(config.output / "distance.png", pictures.over_time(steps, distances))
