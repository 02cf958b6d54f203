"""Where a model is unsure: maps of variance beside a prediction, a picture of them, and the quality score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ncafast.tasks.mednca import pictures
from ncafast.tasks.mednca.inference import Segmentation
from ncafast.tasks.mednca.slices import Array, Recipe
from ncafast.tasks.mednca.volumes import write_map
from ncafast.uncertainty.result import quality
from ncafast.utils.outputs import write_result
from ncafast.utils.texts import printable
from ncafast.viz import charts
from ncafast.viz.figures import pixels_of, write_png
from ncafast.viz.overlays import CLASS_COLOURS, legend_text

ENDINGS = ("_runs.nii.gz", "_steps.nii.gz", ".png")  # of an image's files
REPORT = "report.json"


def scores(segmentation: Segmentation) -> dict[int, float]:
    """The quality score NQM by label value; high means doubtful."""
    assert segmentation.result is not None
    variance, mean = (
        each.movedim(1, 0) for each in (segmentation.result.runs_variance, segmentation.result.probability)
    )
    return dict(zip(segmentation.recipe.values, quality(variance.sqrt(), mean).tolist(), strict=True))


def words(quality: Mapping[int, float], names: Mapping[int, str]) -> str:
    """The scores for people; of several labels with their names, by label value."""
    each = [f"{names[value]} {score:.3f}" if len(quality) > 1 else f"{score:.3f}" for value, score in quality.items()]
    return f"NQM {', '.join(each)}"


def write_maps(
    paths: Sequence[Path], segmentation: Segmentation, source: Path, title: str, runs: int, last_steps: int
) -> dict[str, Any]:
    """Write maps of variance, and a picture; returns the image's row of the report.

    A map holds at each voxel the variance of the class where it is largest, from 0 to 0.25.

    Args:
        paths: of the files, as `ENDINGS` has them.
        segmentation: what the model says of the image.
        source: the image.
        title: what the image is called.
        runs: of the model.
        last_steps: of the automaton, whose variance is shown.
    """
    recipe, result, (*maps, picture) = segmentation.recipe, segmentation.result, paths
    assert result is not None
    variances = [variance.amax(1).numpy() for variance in (result.runs_variance, result.steps_variance)]  # [S, H, W]
    for path, variance in zip(maps, variances, strict=True):
        write_map(path, recipe.to_canonical(variance), source, recipe.geometry)
    nqm = scores(segmentation)
    shown = dict(zip((f"{runs} runs", f"the last {last_steps} steps"), variances, strict=True))
    text = f"{title}: {words(nqm, recipe.names)}"
    write_png(picture, pictures.draw_uncertainty(segmentation, shown, text))
    means = (float(variance.mean(dtype=np.float64)) for variance in variances)
    row = {"image": printable(title), "nqm": nqm, "voxels": segmentation.voxels()}
    return row | dict(zip(("mean_variance_runs", "mean_variance_steps"), means, strict=True))


def write_report(folder: Path, rows: Sequence[Any], recipe: Recipe, facts: dict[str, Any]) -> Path:
    """Write report.json, the most doubtful image first, and say where; ``facts`` are of all images."""
    doubtful = sorted(rows, key=lambda row: -max(row["nqm"].values()))
    names = {"labels": dict(zip(recipe.values, recipe.label_names, strict=True))} if recipe.label_names else {}
    path = folder / REPORT
    write_result(path, json.dumps({**facts, **names, "images": doubtful}, indent=1))
    return path


def draw_quality(rows: Sequence[dict[str, Any]], recipe: Recipe) -> Array:
    """Dice over NQM, one point per volume and label, [height, width, 3] uint8. ``rows`` are those of the scores."""
    figure = Figure(figsize=(5.4, 4.2), dpi=110)
    axes = figure.add_subplot()
    for number, value in enumerate(sorted({row["label"] for row in rows})):
        points = [row for row in rows if row["label"] == value]
        colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
        nqm, dice = np.array([[row["nqm"], row["dice"]] for row in points]).T
        said = legend_text(recipe.name_of(value))
        if len(points) > 2 and np.ptp(nqm) > 0 and np.ptp(dice) > 0:
            said += f", correlation {np.corrcoef(nqm, dice)[0, 1]:.2f}"
        axes.plot(nqm, dice, "o", color=colour, alpha=0.8, label=said)
    axes.set(xlabel="NQM (high means doubtful)", ylabel="Dice")
    charts.plain(axes)
    axes.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return pixels_of(figure)
