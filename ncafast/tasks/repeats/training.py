"""One training among several: a task's options out of those of the repetition, and what came of it as numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncafast.tasks import on_demand
from ncafast.tasks.options import ImageOptions
from ncafast.tasks.repeats.config import FoldOptions, GridOptions
from ncafast.train.run_folder import FREE
from ncafast.utils.json_files import plain, read_json
from ncafast.utils.option_checks import Range, check_options
from ncafast.utils.outputs import check_folder
from ncafast.utils.progress import note, say
from ncafast.utils.tables import columns
from ncafast.viz.figures import Array, write_png

# Options that may differ when a repetition goes on: what changes no weight, or is compared otherwise.
_FREE = FREE - {"epochs", "patience"} | {"cache", "device", "threads", "over", "by", "lowest", "folds", "splits"}
# Options that folders of earlier versions do not name, with the values that these had.
_LATER = {"geometry": "sform"} | {field.name: field.default for field in dataclasses.fields(ImageOptions)}
# Options that folders of earlier versions do not name, and whose values changed with them.
_ADDED = frozenset({"suffix", "merge_labels", "structures"})


def training(config: Any, **changes: Any) -> Any:
    """The task's own options, with changes. One that the repetition has an option of the same name for is left open."""
    kind = on_demand.options_of(config.task).TrainConfig
    fields = (*dataclasses.fields(FoldOptions), *dataclasses.fields(GridOptions))
    reserved = {field.name for field in fields} - {"output"}
    names = [field.name for field in dataclasses.fields(kind) if field.name not in reserved]
    if hasattr(config, "cache"):  # all trainings share the prepared slices
        changes["cache"] = config.cache or config.output / "cache"
    return kind(**({name: getattr(config, name) for name in names} | changes))


def begin(config: Any, **limits: Range) -> tuple[Any, Any]:
    """The options and their task; options that earlier versions did not have are set to what these versions did where
    one of them began the repetition, and a line says so.

    Raises:
        ValueError: options out of these limits, or a folder that cannot be made.
    """
    check_options(config, steps=1, **limits)
    check_folder("--output", config.output)
    task = on_demand.find(config.task)
    if not (hasattr(config, "suffix") and _begun_earlier(config.output)):
        return config, task
    note(f"an earlier version began {config.output}, so dataset.json and further modalities are left aside")
    merge = not config.classes
    return dataclasses.replace(config, channels=config.channels or (0,), suffix="name", merge_labels=merge), task


def finish(config: Any, rows: Sequence[dict[str, Any]], picture: Array) -> None:
    """Print the rows, write the picture of them, and say where both are."""
    write_png(config.output / "results.png", picture)
    for line in (*columns(rows), f"written: {config.output / 'results.csv'}, results.png"):
        say(line)


def shared_options(config: Any) -> dict[str, Any]:
    """The options that all trainings have in common, as JSON can hold them."""
    free = _FREE | _ADDED if _begun_earlier(config.output) else _FREE
    kept = {name: value for name, value in plain(config).items() if name not in free and _LATER.get(name, ...) != value}
    if kept.get("ignore_affine"):  # earlier versions trained on mirrored labels, whose results must not join these
        kept["labels_lie"] = "as their images"
    return kept


def _begun_earlier(folder: Path) -> bool:
    """Whether a version without the options of `_ADDED` began a repetition in the folder."""
    try:
        return "suffix" not in read_json(folder / "options.json", "", dict)
    except ValueError:
        return False  # there is none, or `claim` says that it is corrupt


def measured(result: Any) -> dict[str, float]:
    """Loss and held-out measures of the best epoch, which epoch that is, and the seconds of all."""
    best = result.history[result.best_epoch - 1]
    numbers = {name: value for name, value in best.items() if name.startswith("val_") and value is not None}
    seconds = sum(row["seconds"] for row in result.history)
    return {**numbers, "loss": best["loss"], "best_epoch": result.best_epoch, "seconds": round(seconds, 1)}
