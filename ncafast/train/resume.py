"""Whether resume.pt is a state to continue from: it may be corrupt, or of another run.

It holds model, optimiser, loss scaler, averaged weights, the job's own state (such as a pool), epoch, step, sums of the
epoch so far, history, and the best epoch.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ncafast import checkpoint
from ncafast.train.run_folder import ANOTHER

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


def kind_of(model: nn.Module) -> dict[str, str]:
    """What must not change while a model is trained: its class, constructor arguments (of ncafast's own models), the
    shapes of its weights, and which of them are trained."""
    facts = {"class": type(model).__name__}
    if checkpoint.knows(model):
        config = model.config()  # type: ignore[operator]
        facts |= {name: str(value) for name, value in config.items() if name not in ("device", "rule")}
        facts |= {name: str(value) for name, value in json.loads(config.get("rule", "{}")).items()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    parameters = {name for name, _ in model.named_parameters()}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):  # what a module keeps beside its tensors (get_extra_state)
            continue
        frozen = ", frozen" if name in parameters - trained else ""
        facts[f"weight {name}"] = f"{list(tensor.shape)}{frozen}"
    return facts


def check_model(model: nn.Module, kind: Any, folder: Path) -> None:
    """Raise ValueError if the run in a folder was of another model than this one; `kind` is what `kind_of` gave."""
    if not isinstance(kind, dict) or kind == (asked := kind_of(model)):
        return
    names = [name for name in {**kind, **asked} if kind.get(name) != asked.get(name)]
    shown = [f"{name} (here {kind.get(name, 'none')}, asked {asked.get(name, 'none')})" for name in names[:4]]
    raise ValueError(
        f"{folder}: holds a run of another model: {', '.join(shown)}{' ...' if len(names) > 4 else ''}; "
        f"give the same model to continue it, or {ANOTHER}"
    )


def take_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give the model its weights. Raises ValueError if they do not fit."""
    for name, wanted in model.state_dict().items():
        weight = weights[name]
        if not isinstance(wanted, Tensor):
            continue
        _require(isinstance(weight, Tensor), name, weight)
        _require(weight.shape == wanted.shape, name, list(weight.shape))
    _require(len(weights) == len(model.state_dict()), "weights", f"{len(weights)} tensors")
    model.load_state_dict(weights)


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
