"""Which samples of a data set an evaluation scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ncafast.tasks.image_pairs import Pair, Pairs
from ncafast.train.run_folder import read_split
from ncafast.utils.progress import say

Subset = Literal["auto", "val", "train", "all"]


def choose(names: Sequence[str], subset: Subset, model: Path, things: str) -> set[str]:
    """The names of the wanted subset; auto are those held out, if the model was trained on some of these, or all.

    Args:
        names: of all samples.
        subset: see above.
        model: checkpoint or folder of a run, beside which split.json says what was held out.
        things: what the samples are called in messages, a plural noun.

    Raises:
        ValueError: it is not known what was held out, or none of that is here.
    """
    split = None if subset == "all" else read_split(model)
    if subset == "auto":
        known = split is not None and any(name in split["train"] for name in names)
        subset = "val" if known else "all"
    if subset == "all":
        return set(names)
    side = "held-out" if subset == "val" else subset
    if split is None:
        raise ValueError(
            f"{model}: has no split.json beside it, so its {side} {things} are not known; use --subset all"
        )
    wanted = set(split[side.replace("-", "_")])
    chosen = wanted.intersection(names)
    if not chosen:
        raise ValueError(f"none of the model's {len(wanted)} {side} {things} is in this data; use --subset all")
    hint = "; --subset all scores all" if subset == "val" and len(chosen) < len(names) else ""
    say(f"scoring the {side} {things}: {len(chosen)} of {len(names)}, as the names say{hint}")
    return chosen


def choose_pairs(found: Pairs, options: Any) -> list[Pair]:
    """The pairs of images and targets that options with data, subset and model ask for; test are those that a CSV list
    calls so.

    Raises:
        ValueError: there are none, or it is not known which they are.
    """
    if options.subset == "test":
        chosen = [pair for pair in found.pairs if pair.part == "test"]
        if not chosen:
            raise ValueError(f"{options.data}: has no test images (split test in a CSV list); see --subset")
        return chosen
    names = choose([pair.name for pair in found.pairs], options.subset, options.model, "images")
    return [pair for pair in found.pairs if pair.name in names]
