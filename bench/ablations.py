"""What the defaults of a training are worth: the same small training with one of them changed, and several seeds.

`python -m bench.ablations growing --data lizard.png` prints the lines of a table of docs/training.md. It takes minutes
to half an hour of one core; if it is stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncafast.tasks import base, on_demand
from ncafast.train import TrainingStopped
from ncafast.train.results import Results

SEEDS = 3
_QUIET = {"threads": 1, "device": "cpu", "tensorboard": False, "progress": False}


@dataclass(frozen=True)
class Ablation:
    """A small training of a task, what is measured at its best epoch, and what is changed in it."""

    data: str
    """The option that says what to train on."""
    small: Mapping[str, Any]
    measures: tuple[str, ...]
    changes: Mapping[str, Mapping[str, Any]]


ABLATIONS = {
    "growing": Ablation(
        "image",
        {"size": 16, "padding": 4, "epochs": 6},
        ("val_grown", "val_later", "val_healed"),
        {
            "gradient not normalised, `clip` 1": {"normalise_gradient": False, "clip": 1.0},
            "no damage": {"damage": 0},
            "no pool and no damage": {"regime": "growing"},
        },
    ),
    "depth": Ablation(
        "data",
        {"crop": 48, "epochs": 10, "warmup": 10, "pictures": 0},
        ("val_abs_rel", "val_rmse", "val_delta1"),
        {
            "`ema` 0": {"ema": 0.0},
            "gradient normalised, `clip` 0": {"normalise_gradient": True, "clip": 0.0},
        },
    ),
    "classification": Ablation(
        "data",
        {"size": 24, "epochs": 3, "pictures": 0},
        ("val_accuracy",),
        {"`ema` 0": {"ema": 0.0}},
    ),
}


def run(task: str, data: Path, folder: Path, seeds: int) -> str:
    """Train what is missing. Returns a table in Markdown: mean and standard deviation over the seeds."""
    chosen = ABLATIONS[task]
    changes = {"as by default": {}, **chosen.changes}
    results = Results(folder, ("change", "seed"))
    for seed in range(seeds):
        for name, options in changes.items():
            key = {"change": name, "seed": seed}
            if results.find(key) is None:
                output = folder / f"{re.sub('[^a-z0-9.]+', '-', name)}-{seed}"
                results.add(key, _measured(task, {chosen.data: data, "seed": seed, "output": output, **options}))
    lines = [("", *chosen.measures), ("---",) * (1 + len(chosen.measures))]
    for name in changes:
        rows = [results.find({"change": name, "seed": seed}) or {} for seed in range(seeds)]
        lines.append((name, *(_spread([row[measure] for row in rows]) for measure in chosen.measures)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _measured(task: str, options: dict[str, Any]) -> dict[str, float]:
    """At the best epoch; NaN where the training came to nothing."""
    chosen = ABLATIONS[task]
    config = on_demand.options_of(task).TrainConfig(**{**_QUIET, **chosen.small, **options})
    try:
        measures = base.train(on_demand.find(task), config).measures
    except TrainingStopped as error:
        print(error, file=sys.stderr)
        measures = {}
    return {name: measures.get(name, float("nan")) for name in chosen.measures}


def _spread(values: list[float]) -> str:
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.4f} +- {spread:.4f}"


def main(words: list[str]) -> int:
    """Run the ablations of one task. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.ablations", description=__doc__)
    parser.add_argument("task", choices=ABLATIONS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args(words)
    print(run(given.task, given.data, given.output or Path(f"ablations-{given.task}"), given.seeds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
