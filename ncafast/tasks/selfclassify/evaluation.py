"""Scoring a model on test digits over time: a table, JSON, CSV and pictures."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ncafast.files import write_text
from ncafast.tasks.selfclassify import pictures
from ncafast.tasks.selfclassify.config import EvaluateConfig
from ncafast.tasks.selfclassify.idx import CLASSES, read_digits
from ncafast.tasks.selfclassify.metrics import Tally, confusion, tally, votes
from ncafast.tasks.selfclassify.model_file import load_model
from ncafast.tasks.selfclassify.running import each_batch
from ncafast.tasks.selfclassify.states import brightness
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import check_options
from ncafast.utils.outputs import check_folder, check_free, write_result
from ncafast.utils.progress import say
from ncafast.viz.figures import write_png

_PICTURES = ("accuracy.png", "confusion.png", "digits.png")
_FILES = ("scores.csv", "scores.json", *_PICTURES)
_SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 20.0, 50.0)  # of the trained length
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Scores:
    """Accuracy after each of several step counts."""

    over_time: dict[int, Tally]
    """Counts by step, in rising order."""
    trained_steps: int
    confusion: Tensor
    """[10, 10]: rows are the true digits, columns the votes, at the trained length."""
    json: Path
    pictures: tuple[Path, ...]

    def table(self) -> str:
        """The accuracies as text in columns."""
        lines = [f"{'step':>6}{'cells':>9}{'votes':>9}{'agree':>9}"]
        for step, found in self.over_time.items():
            values = (found.cell_accuracy, found.vote_accuracy, found.agreement)
            mark = "  length of training" if step == self.trained_steps else ""
            lines.append(f"{step:>6}" + "".join(f"{value:>9.4f}" for value in values) + mark)
        return "\n".join(lines)


def evaluate(config: EvaluateConfig) -> Scores:
    """Classify test digits from fresh states, print the table and write scores and pictures.

    Raises:
        ValueError: options, files or a checkpoint that cannot be used.
    """
    check_options(config, digits=1, steps=1)
    check_folder("--output", config.output)
    check_free("--output", [config.output / name for name in _FILES], config.overwrite)
    trained = load_model(config.model, resolve_device(config.device))
    digits = read_digits(config.data, "t10k")
    digits = digits.part(0, min(config.digits or len(digits), len(digits)))
    labels = torch.from_numpy(digits.labels.astype(np.int64))
    moments = moments_of(trained.steps, config.steps or 10 * trained.steps)
    middle = trained.steps if trained.steps in moments else moments[-1]
    over_time = dict.fromkeys(moments, Tally())
    found = torch.zeros(len(digits), CLASSES, dtype=torch.int64)  # votes at the trained length
    shown: list[Tensor] = []
    bar = tqdm(total=len(digits) * len(moments), desc="classifying", unit="state", disable=not config.progress)

    def see(step: int, places: range, states: Tensor) -> None:
        own = slice(places.start, places.stop)
        over_time[step] += tally(states, labels[own].to(states.device))
        if step == middle:
            found[own] = votes(states).cpu()
            shown.append(states.cpu())
        bar.update(len(places))

    with bar:
        each_batch(
            trained.model,
            brightness(digits.images),
            moments,
            batch=config.batch_size,
            seed=config.seed,
            see=see,
        )
    files = tuple(config.output / name for name in _PICTURES)
    scores = Scores(over_time, trained.steps, confusion(found, labels), config.output / "scores.json", files)
    _write(scores, str(trained.path), config.output)
    drawn = (
        pictures.accuracy(over_time, trained.steps),
        pictures.confusion(scores.confusion),
        _examples(torch.cat(shown), found, labels),
    )
    for file, picture in zip(files, drawn, strict=True):
        write_png(file, picture)
    for line in scores.table().splitlines():
        say(line)
    return scores


def moments_of(trained: int, last: int) -> list[int]:
    """The step counts to look at, up to the last one: parts and multiples of the trained length."""
    usual = {max(1, round(share * trained)) for share in _SHARES}
    return sorted({step for step in usual if step < last} | {last})


def _examples(states: Tensor, found: Tensor, labels: Tensor) -> pictures.Array:
    """The first digits, and below them the first whose vote is wrong."""
    wrong = (found.argmax(1) != labels).nonzero()[:, 0][:_SHOWN]
    sheets = [pictures.sheet(pictures.colour(states[:_SHOWN]), zoom=3)]
    sheets.append(pictures.legend(sheets[0].shape[1]))
    if len(wrong):
        sheets.append(pictures.sheet(pictures.colour(states[wrong]), zoom=3))
    return pictures.stack(sheets)


def _write(scores: Scores, model: str, folder: Path) -> None:
    rows = [
        {
            "step": step,
            "cell_accuracy": found.cell_accuracy,
            "vote_accuracy": found.vote_accuracy,
            "agreement": found.agreement,
            "cells": found.cells,
            "digits": found.digits,
        }
        for step, found in scores.over_time.items()
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "scores.csv", text.getvalue())
    facts = {"model": model, "trained_steps": scores.trained_steps, "over_time": rows}
    write_result(scores.json, json.dumps({**facts, "confusion": scores.confusion.tolist()}, indent=1))
