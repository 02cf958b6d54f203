"""The two ways into the training loop: `fit` for a model with a loss function, and `run` for a `Job`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ncafast.train.arguments import check_fit, check_job, check_settings_kind
from ncafast.train.context import Result, StepContext
from ncafast.train.distributed import check_norm, joined
from ncafast.train.job import FunctionJob, Job, Losses, Row, bare_reason
from ncafast.train.loop import Loop
from ncafast.train.run_folder import ANOTHER, FREE, RunFolder
from ncafast.training_options import Settings, check_settings
from ncafast.utils.devices import determinism, threads
from ncafast.utils.lock import locked
from ncafast.utils.progress import note, say


def fit(
    model: nn.Module,
    data: Any,
    loss: Callable[[nn.Module, Any, StepContext], Losses],
    settings: Settings | None = None,
    *,
    validate: Callable[[nn.Module], Row] | None = None,
    score: Callable[[Row], float] | None = None,
    show: Callable[[nn.Module], dict[str, Any]] | None = None,
) -> Result:
    """Train a model with a loss function; `run` takes a `Job` where that is not enough.

    Args:
        model: any module.
        data: a tensor or a tuple of tensors, whose first axis counts samples, or any data set with len() and []. A run
            goes on with the same tensors alone, or with a data set of the same length.
        loss: `loss(model, batch, at)` gives a tensor [], a mean over the batch, or several by name to be added. Pass
            `at.steps` and `**at.options` to the model for random step counts, memory policy and exact resume.
        settings: see `Settings`; None takes the defaults.
        validate: `validate(model)` gives columns for the history, after every epoch.
        score: `score(row)` says what an epoch is worth; the best one's weights are kept.
        show: `show(model)` gives pictures [height, width, 3] uint8 by name, at about ten epochs, for TensorBoard; see
            `ncafast.viz.visual.Visual`.

    Raises:
        TypeError, ValueError: options, data, a model, a loss or a run folder that cannot be used; another process has
            the folder.
        TrainingStopped: the loss or the gradient became infinite or NaN.
    """
    check_fit(model, data, loss, settings, validate, score, show)
    job = FunctionJob(model, data, loss, validate, score, show)
    return run(job, settings or Settings(), data={"train": job.checksums(), "held_out": {}})


def run(
    job: Job,
    settings: Settings,
    *,
    config: Any = None,
    data: dict[str, dict[str, int]] | None = None,
    free: Iterable[str] = FREE,
    things: str = "samples",
    opening: str = "",
) -> Result:
    """Train, or go on with the run that was begun in `settings.output`.

    Args:
        job: what is trained.
        settings: how.
        config: the task's own dataclass of options, for config.json; None takes `settings`.
        data: checksums of the samples by name, {"train": {...}, "held_out": {...}}, for split.json.
        free: names of options that may differ when the run is continued.
        things: what the samples are called in messages.
        opening: line logged when training starts.

    Raises:
        TypeError, ValueError: a job, options or a run folder that cannot be used.
        TrainingStopped: the loss or the gradient became infinite or NaN.
    """
    check_job(job)
    check_settings_kind(settings)
    check_settings(settings)
    folder = RunFolder(settings.output, things)
    begun = folder.options()
    _check_length(settings, begun)
    number = settings.threads or begun.get("threads") or torch.get_num_threads()
    config = replace(settings if config is None else config, threads=number)
    names = data or {}
    with ExitStack() as stack:
        stack.enter_context(threads(number))
        stack.enter_context(determinism(settings.deterministic))
        ranks, device = joined(settings.device, settings.domain_parallel)
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        check_norm(job.model, ranks, settings.local_norm)
        loop = Loop(job, settings, folder, ranks, device)
        stack.enter_context(locked(settings.output))
        state = ranks.told(folder.claim(config, names, free) if ranks.first else None)
        if state is not None:
            loop.restore(state)
            note(*_new_length(settings, begun))
        if opening:
            say(f"{opening}; the run is in {settings.output}")
        _announce_bare(job, settings.output)
        try:
            done = loop.run(begun=state is not None)
        except KeyboardInterrupt:
            say(f"{settings.output}: stopped; the same command resumes from the last save")
            raise
    return replace(done, train=tuple(names.get("train", ())), held_out=tuple(names.get("held_out", ())))


def _check_length(settings: Settings, begun: dict[str, Any]) -> None:
    """Raise ValueError if a run whose learning rate has nearly fallen to 0 is to be made longer."""
    if settings.schedule == "cosine" and begun.get("epochs", settings.epochs) != settings.epochs:
        raise ValueError(
            f"{settings.output}: the cosine schedule of this run ends after {begun['epochs']} epochs, not after "
            f"epochs={settings.epochs}; give the same number to continue it, or {ANOTHER}"
        )


def _new_length(settings: Settings, begun: dict[str, Any]) -> list[str]:
    """One line if a run that is continued has another length than it began with."""
    epochs = begun.get("epochs", settings.epochs)
    if epochs == settings.epochs:
        return []
    return [
        f"{settings.output}: this run began with epochs={epochs}, and now ends after {settings.epochs}; the learning "
        "rate of each epoch is the same as before"
    ]


def _announce_bare(job: Job, folder: Path) -> None:
    """Say before the training if its checkpoints will hold tensors alone."""
    reason = bare_reason(job.model) if type(job).save_model is Job.save_model else None
    if reason is not None:
        rest = ", ".join(key for key, value in job.model.state_dict().items() if not isinstance(value, Tensor))
        without = f" without {rest} (resume.pt has it)" if rest else ""
        say(
            f"{folder}: best.safetensors and last.safetensors will hold bare tensors{without}, since {reason}; "
            "read them with module.load_state_dict(safetensors.torch.load_file(...))"
        )
