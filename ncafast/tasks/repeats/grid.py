"""A search over the options of any task."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ncafast.tasks import base, on_demand
from ncafast.tasks.repeats.pictures import draw_grid
from ncafast.tasks.repeats.training import begin, finish, measured, shared_options, training
from ncafast.train import TrainingStopped
from ncafast.train import search as search_grid
from ncafast.train.run_folder import FREE
from ncafast.utils.option_checks import is_range
from ncafast.utils.progress import say
from ncafast.utils.renamed import present_words

_LOWEST = (
    *("loss", "val_loss", "val_grown", "val_later", "val_healed", "dice_loss", "bce", "seconds"),
    *("val_abs_rel", "val_rmse"),
)
_NOT_SEARCHED = FREE - {"epochs", "patience"} | {"device", "threads"}


def search(config: Any) -> list[dict[str, Any]]:
    """Train every combination that is still missing, print the ranking, write results.csv and results.png.

    A training whose loss becomes NaN is ranked last.

    Args:
        config: of a class that `ncafast.tasks.repeats.config.grid_options` makes.

    Returns:
        One row per combination, best first.

    Raises:
        ValueError: options, a grid or a folder that cannot be used.
    """
    config, task = begin(config)
    grid = parse_grid(config.over, on_demand.options_of(config.task).TrainConfig)
    by = config.by or task.rank_by(config)
    lowest = config.lowest or by in _LOWEST

    for values in itertools.product(*grid.values()):  # all of them, before hours go into the first
        base.check(task, training(config, **dict(zip(grid, values, strict=True))))

    def one(point: dict[str, Any], folder: Path) -> dict[str, float]:
        try:
            numbers = measured(base.train(task, training(config, output=folder, **point)))
        except TrainingStopped as error:
            say(f"no result for this combination: {error}")
            return {by: math.nan, "best_epoch": 0, "seconds": math.nan}
        if by not in numbers:
            raise ValueError(f"by={by!r} is not among what was measured: {', '.join(numbers)}; choose one with --by")
        return {name: numbers[name] for name in (by, "best_epoch", "seconds")}

    rest = {name: value for name, value in shared_options(config).items() if name not in grid}
    rows = search_grid(grid, one, config.output, by=by, lowest=lowest, options=rest)
    finish(config, rows, draw_grid(rows, list(grid), by, lowest))
    return rows


def parse_grid(words: tuple[str, ...], kind: type[Any]) -> dict[str, list[Any]]:
    """ "lr=1e-3,2e-3" and the like as values by option, of the kinds that the class of options says.

    Raises:
        ValueError: an unknown option or a value of another kind; the message names the word.
    """
    if not words:
        raise ValueError("--over names no option; give values such as --over lr=1e-3,2e-3 hidden=64,128")
    hints = get_type_hints(kind)
    known = {name for name, hint in hints.items() if Path not in (hint, *get_args(hint))} - _NOT_SEARCHED
    grid: dict[str, list[Any]] = {}
    for word in present_words((f"--{word.lstrip('-')}" for word in words), known):
        word = word[2:]
        option, equals, values = word.partition("=")
        name = option.replace("-", "_")
        if not equals or name not in known:
            what = f"{option} is no option to search over" if equals else "has no ="
            raise ValueError(f"--over {word}: {what}; give option=value,value with one of {', '.join(sorted(known))}")
        if name in grid:
            raise ValueError(f"--over names {name} twice; give all its values in one word")
        grid[name] = [_value(_both(name, hints[name], text), hints[name], word) for text in values.split(",")]
    return grid


def _both(name: str, kind: Any, text: str) -> str:
    """The text of a value with the fewest and the most, where one number stands for both."""
    return f"{text}:{text}" if is_range(name, kind) and ":" not in text else text


def _value(text: str, kind: Any, word: str) -> Any:
    """The text as a value of a kind."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if type(None) in parts and text in ("none", "None"):
            return None
        (kind,) = (part for part in parts if part is not type(None))
        return _value(text, kind, word)
    if origin is tuple:
        items = text.split(":")
        return tuple(_value(item, parts[0], word) for item in items)
    allowed = {str(choice): choice for choice in parts} if origin is Literal else None
    if kind is bool:
        allowed = {"true": True, "false": False}
    if allowed is not None:
        if text.lower() not in allowed and text not in allowed:
            raise ValueError(f"--over {word}: {text!r} is not allowed; choose from {', '.join(allowed)}")
        return allowed.get(text, allowed.get(text.lower()))
    try:
        return kind(text)
    except ValueError:
        number = "a whole number" if kind is int else "a number"
        raise ValueError(f"--over {word}: {text!r} is not allowed; give {number}") from None
