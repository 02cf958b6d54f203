"""What a task brings to the training loop."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ncafast import checkpoint
from ncafast.train.context import Report, StepContext
from ncafast.utils.seeds import generator

Losses = Tensor | dict[str, Tensor]
Row = dict[str, Any]


class Job:
    """What is trained, on what, and how it is judged. Subclasses set `model` and `samples` and write `load` and
    `losses`; all else may be left as it is."""

    model: nn.Module
    samples: int
    """Training samples of an epoch."""
    skipped: Sequence[Any] = ()
    """What was left out since it cannot be used, and why."""

    def steps_per_epoch(self, batch: int) -> int:
        """Training steps of an epoch when each takes `batch` samples; the last one may take fewer."""
        return -(-self.samples // batch)

    def plan(self, epoch: int, batch: int, seed: int) -> Sequence[Sequence[int]]:
        """The samples of each training step of an epoch: all of them, in an order of the epoch's own."""
        order = torch.randperm(self.samples, generator=generator("order", seed, epoch)).tolist()
        return [order[start : start + batch] for start in range(0, self.samples, batch)]

    def begin_step(self, at: StepContext) -> None:
        """Called once per training step, in every process alike, before its first micro-batch is loaded."""

    def load(self, at: StepContext) -> Any:
        """The samples `at.micro_batch`: a tensor, a tuple or dict of tensors, or anything with `.to(device)`."""
        raise NotImplementedError

    def losses(self, batch: Any, at: StepContext) -> Losses:
        """The scalar loss, a mean over the micro-batch, or several by name whose sum is minimised."""
        raise NotImplementedError

    def end_step(self, at: StepContext, kept: Tensor | None) -> None:
        """Called once per training step after the weights changed, with all that `at.keep` was given: [B, ...] in the
        order of `at.numbers`, or None."""

    def validate(self, report: Report) -> Row:
        """Columns to add to an epoch's row; numbers, or None. The model holds the weights to be judged.

        Pictures of what is measured are drawn where `report.draws`, inside `with report.timed():`."""
        return {}

    def show(self, report: Report) -> None:
        """Give pictures of samples to `report.board`. Called after `validate`, at about ten epochs of a run, if
        TensorBoard files are written; the model holds the weights that were judged."""

    def score(self, row: Row) -> float:
        """What an epoch is worth; the highest one's weights are kept as best.safetensors."""
        return -float(row["loss"])

    def draw(self, history: Sequence[Row], best_epoch: int, report: Report) -> None:
        """Write pictures of the run so far, at the end of an epoch that `report.draws` is true for."""

    def headline(self, row: Row) -> str:
        """What to say of an epoch beside its loss."""
        return "".join(f", {name} {row[name]:.4f}" for name in row if name.startswith("val_") and row[name] is not None)

    def save_model(self, path: Path, facts: dict[str, int]) -> None:
        """Write the model's checkpoint; `facts` are the epoch and step it is of."""
        save_any(path, self.model, **{key: str(value) for key, value in facts.items()})

    def state(self) -> dict[str, Any]:
        """What the job itself must remember for a stopped run to go on (a pool): tensors and plain data."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave. Raises ValueError, LookupError or TypeError if it does not fit."""


class FunctionJob(Job):
    """A job made of functions; see `ncafast.train.fit`."""

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        loss: Callable[[nn.Module, Any, StepContext], Losses],
        validate: Callable[[nn.Module], Row] | None = None,
        score: Callable[[Row], float] | None = None,
        show: Callable[[nn.Module], dict[str, Any]] | None = None,
    ) -> None:
        self.model, self._data, self._loss, self._validate, self._score = model, data, loss, validate, score
        self._show = show
        self._tensors = (data,) if isinstance(data, Tensor) else data if isinstance(data, tuple) else None
        self.samples = len(data if self._tensors is None else self._tensors[0])
        if not self.samples:
            raise ValueError("data is empty; give at least one training sample")

    def checksums(self) -> dict[str, int]:
        """What tells these samples from others: of tensors the content, of a data set the length alone."""
        if self._tensors is None:
            return {"samples": self.samples}
        return {f"tensor {number}": _checksum(tensor) for number, tensor in enumerate(self._tensors)}

    def load(self, at: StepContext) -> Any:
        """Rows of the tensors, or the data set's items, collated as torch's DataLoader does."""
        if self._tensors is None:
            return torch.utils.data.default_collate([self._data[number] for number in at.micro_batch])
        chosen = tuple(tensor[at.micro_batch] for tensor in self._tensors)
        return chosen[0] if isinstance(self._data, Tensor) else chosen

    def losses(self, batch: Any, at: StepContext) -> Losses:
        """What the function says."""
        return self._loss(self.model, batch, at)

    def validate(self, report: Report) -> Row:
        """What the function says, without gradients."""
        if self._validate is None:
            return {}
        self.model.eval()
        with torch.no_grad():
            return self._validate(self.model)

    def show(self, report: Report) -> None:
        """What the function says, without gradients."""
        if self._show is None:
            return
        self.model.eval()
        with torch.no_grad():
            pictures = self._show(self.model)
        for name, pixels in pictures.items():
            report.board.picture(report.step, name, pixels)

    def score(self, row: Row) -> float:
        """What the function says; by default the lowest training loss is best."""
        return super().score(row) if self._score is None else self._score(row)


def _checksum(tensor: Tensor) -> int:
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return zlib.crc32(raw.numpy().data, len(tensor))


def save_any(path: Path, model: nn.Module, **metadata: str) -> None:
    """A checkpoint for `ncafast.load` if that can build the model again; otherwise its bare tensors as safetensors."""
    if bare_reason(model) is None:
        checkpoint.save(path, model, **metadata)
    else:
        checkpoint.save_tensors(path, model, partial=True, **metadata)  # a training is never lost


def bare_reason(model: nn.Module) -> str | None:
    """Why `save_any` writes bare tensors of this model, or None."""
    return checkpoint.obstacle(checkpoint.unwrapped(model))


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with all its tensors on a device."""
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(to_device(value, device) for value in batch)
    return batch.to(device) if hasattr(batch, "to") else batch
