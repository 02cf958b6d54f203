"""Whether the state of a run is one to go on from: the file it comes from may be damaged or of another run."""

from __future__ import annotations

import math
from typing import Any

SUMS = ("samples", "seconds")  # beside one sum for every loss
_ROW = {"epoch", "steps", "loss", "lr", "seconds"}


def check_progress(state: dict[str, Any], steps: int) -> None:
    """Raise ValueError unless the counts, sums and rows of a state fit each other.

    Args:
        state: as training saves it; its tensors are not looked at.
        steps: of one epoch.
    """
    epoch, step = state["epoch"], state["step"]
    _require(_whole(epoch) and epoch >= 0, "epoch", epoch)
    _require(_whole(step) and 0 <= step < steps, "step", step)
    sums, history, best = state["sums"], state["history"], state["best"]
    _require(isinstance(sums, dict) and set(sums) >= set(SUMS) and all(map(_number, sums.values())), "sums", sums)
    _require((sums["samples"] > 0) == (step > 0), "sums", sums)
    _require(isinstance(history, list) and len(history) == epoch, "history", history)
    for number, row in enumerate(history, start=1):
        _require(isinstance(row, dict) and set(row) >= _ROW and set(row) == set(history[0]), "history", row)
        values = [value for key, value in row.items() if not (value is None and key.startswith("val_"))]
        _require(all(map(_number, values)) and row["epoch"] == number, "history", row)
    _require(isinstance(best, dict) and set(best) == {"epoch", "value"} and _whole(best["epoch"]), "best", best)
    if epoch == 0:  # nothing has been measured yet
        _require(best == {"epoch": 0, "value": -math.inf}, "best", best)
    else:
        _require(1 <= best["epoch"] <= epoch and _number(best["value"]), "best", best)


def check_optimiser(optimiser: Any) -> None:
    """Raise ValueError unless what a loaded optimiser remembers of every parameter has its shape."""
    for group in optimiser.param_groups:
        _require(_number(group["lr"]) and group["lr"] >= 0, "lr", group["lr"])
        for parameter in group["params"]:
            for name, value in optimiser.state.get(parameter, {}).items():
                _require(value.ndim == 0 or value.shape == parameter.shape, name, list(value.shape))


def _require(fits: bool, name: str, value: Any) -> None:
    if not fits:
        raise ValueError(f"{name}={str(value)[:80]} does not fit")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
