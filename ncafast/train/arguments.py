"""What is given to `fit` and `run` and what the functions among it return, checked before anything is done with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ncafast.train.job import Job, Row
from ncafast.training_options import Settings
from ncafast.values import shown

_WANTED = "return a tensor [] that is a mean over the batch, or several in a dict by name"


def check_fit(model: Any, data: Any, loss: Any, settings: Any, validate: Any, score: Any, show: Any = None) -> None:
    """Raise TypeError or ValueError, naming the argument and what is allowed."""
    _check_model("model", model)
    _check_data(data)
    _check_call("loss", loss, "model", "batch", "at")
    if settings is not None:
        check_settings_kind(settings)
    if validate is not None:
        _check_call("validate", validate, "model")
    if score is not None:
        _check_call("score", score, "row")
    if show is not None:
        _check_call("show", show, "model")


def check_job(job: Any) -> None:
    """Raise TypeError unless it is a Job that has what it must bring."""
    if not isinstance(job, Job):
        raise TypeError(f"job must be an ncafast.train.Job, got {_kind(job)}; `fit` takes a model with its data")
    kind = type(job)
    needed = ("model", "samples") if kind.steps_per_epoch is Job.steps_per_epoch else ("model",)
    for name in needed:
        if not hasattr(job, name):
            raise TypeError(f"{kind.__name__} has no {name}; a Job sets model and samples")
    _check_model(f"{kind.__name__}.model", job.model)


def check_settings_kind(settings: Any) -> None:
    """Raise TypeError unless they are Settings."""
    if not isinstance(settings, Settings):
        raise TypeError(f"settings must be Settings(...) or None, got {_kind(settings)}")


def check_row(row: Any) -> Row:
    """What `validate` is to return, or TypeError."""
    if not isinstance(row, dict):
        raise TypeError(f"validate returned {shown(row)}; return a dict such as {{'val_loss': 0.5}}")
    return row


def check_score(score: Any) -> float:
    """The number that `score` is to return, or TypeError."""
    try:
        return float(score)
    except (TypeError, ValueError, RuntimeError):  # the last from tensors of several elements
        raise TypeError(f"score returned {shown(score)}; return a number, higher is better") from None


def terms_of(losses: Any) -> dict[str, Tensor]:
    """The losses by name. Raises ValueError, which says what to return, for what cannot be minimised."""
    terms = losses if isinstance(losses, Mapping) else {"loss": losses}
    if not terms:
        raise ValueError(f"the loss is an empty dict; {_WANTED}")
    for name, value in terms.items():
        what = "the loss" if terms is not losses else f"the loss {name!r}"
        if not isinstance(value, Tensor):
            kind = "None (is a return missing?)" if value is None else f"a {type(value).__name__}"
            raise ValueError(f"{what} is {kind}; {_WANTED}, without .item() or float()")
        if value.dim():
            raise ValueError(f"{what} has shape {list(value.shape)}, and one number is needed; take its .mean()")
        if not value.is_floating_point():
            raise ValueError(f"{what} is {value.dtype}, and a floating-point number is needed; {_WANTED}")
    if not any(value.requires_grad for value in terms.values()):
        raise ValueError(
            "the loss does not depend on any weight that is trained: compute it from what the model returns, without "
            "torch.no_grad(), .detach() or .argmax()"
        )
    return dict(terms)


def holds_nan(batch: Any) -> bool:
    """Whether a tensor in a batch (a tensor, or tuples, lists and dicts of them) holds NaN or infinite values."""
    if isinstance(batch, Mapping):
        return any(map(holds_nan, batch.values()))
    if isinstance(batch, (tuple, list)):
        return any(map(holds_nan, batch))
    return isinstance(batch, Tensor) and batch.is_floating_point() and not bool(torch.isfinite(batch).all())


def _check_model(name: str, model: Any) -> None:
    if not isinstance(model, nn.Module):
        hint = f"; give an instance, {model.__name__}(...)" if isinstance(model, type) else ""
        raise TypeError(f"{name} must be a torch.nn.Module, got {_kind(model)}{hint}")


def _check_data(data: Any) -> None:
    if isinstance(data, (tuple, Tensor)):
        _check_tensors(data if isinstance(data, tuple) else (data,))
    elif not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, (type, str, dict)):
        raise TypeError(f"data must be a tensor, a tuple of tensors or a data set with len() and [], got {_kind(data)}")


def _check_tensors(tensors: tuple[Any, ...]) -> None:
    """All of one length, along the axis that counts samples."""
    if not tensors:
        raise ValueError("data is an empty tuple; give at least one tensor")
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"data is a tuple and may hold tensors only, got {_kind(tensor)}")
        if not tensor.dim():
            raise ValueError("data holds a tensor without axes; the first axis counts samples")
    lengths = [len(tensor) for tensor in tensors]
    if len(set(lengths)) != 1:
        raise ValueError(f"data must hold tensors of one length, got lengths {shown(lengths)}")


def _check_call(name: str, function: Any, *arguments: str) -> None:
    """A function that can be called with so many arguments."""
    words = f"{name}({', '.join(arguments)})"
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"{name} must be a function, called as {words}, got {_kind(function)}")
    called: Callable[..., Any] = function.forward if isinstance(function, nn.Module) else function
    try:
        signature = inspect.signature(called)
    except ValueError:  # some built-in functions have none
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise TypeError(f"{name} cannot be called as {words}: {error}") from None


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
