"""What a task brings to the training loop, and what the loop tells it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ncafast import checkpoint
from ncafast.train.run_folder import RunFolder
from ncafast.train.tensorboard import Board
from ncafast.utils.seeds import generator, mix

Losses = Tensor | dict[str, Tensor]
Row = dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """One training step, as a job sees it. Everything random in it is to come from here."""

    epoch: int
    """Epochs that are complete."""
    step: int
    """Training steps that are complete, over all epochs."""
    position: int
    """Samples that the epoch's earlier steps took."""
    numbers: Sequence[int]
    """The samples of the whole step, over all processes and parts."""
    steps: int
    """Steps of the automaton, as drawn for this training step."""
    places: range
    """Where in `numbers` the present part lies."""
    run_seed: int
    """The run's seed option."""
    memory: Literal["states", "sqrt"] | int = "states"
    kept: list[Tensor] = field(default_factory=list, compare=False)

    @property
    def seed(self) -> int:
        """Of the fire masks of this step."""
        return mix("fire", self.run_seed, self.step)

    @property
    def options(self) -> dict[str, Any]:
        """For `ncafast.rollout` and every model: seed, first_sample and memory. With them the parts of a batch, on
        however many processes, draw the masks that the whole batch would."""
        return {"seed": self.seed, "first_sample": self.places.start, "memory": self.memory}

    @property
    def own(self) -> list[int]:
        """The samples of the present part."""
        return [self.numbers[place] for place in self.places]

    def generator(self, *parts: int | str) -> torch.Generator:
        """A CPU generator for this step and purpose: generator("damage"), or generator("augment", place)."""
        return generator(*parts, self.run_seed, self.step)

    def keep(self, state: Tensor) -> None:
        """Have a part's states [len(places), ...] given to `Job.end_step`, together with the other parts'."""
        self.kept.append(state.detach())

    def at(self, places: range) -> Moment:
        """The same step, looking at another part."""
        return replace(self, places=places)


@dataclass(frozen=True)
class Report:
    """Where a job may write while it is measured: the run's folder and its TensorBoard."""

    folder: RunFolder
    board: Board
    step: int
    epoch: int


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

    def begin_step(self, at: Moment) -> None:
        """Called once per training step, in every process alike, before its first part is loaded."""

    def load(self, at: Moment) -> Any:
        """The part's samples, `at.own`: a tensor, a tuple or dict of tensors, or anything with `.to(device)`."""
        raise NotImplementedError

    def losses(self, batch: Any, at: Moment) -> Losses:
        """The scalar loss, a mean over the part's samples, or several by name whose sum is minimised."""
        raise NotImplementedError

    def end_step(self, at: Moment, kept: Tensor | None) -> None:
        """Called once per training step after the weights changed, with all that `at.keep` was given: [B, ...] in the
        order of `at.numbers`, or None."""

    def validate(self, report: Report) -> Row:
        """Columns to add to an epoch's row; numbers, or None. The model holds the weights to be judged."""
        return {}

    def score(self, row: Row) -> float:
        """What an epoch is worth; the highest one's weights are kept as best.safetensors."""
        return -float(row["loss"])

    def draw(self, history: Sequence[Row], best_epoch: int, report: Report) -> None:
        """Write pictures of the run so far, at the end of an epoch."""

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
        loss: Callable[[nn.Module, Any, Moment], Losses],
        validate: Callable[[nn.Module], Row] | None = None,
        score: Callable[[Row], float] | None = None,
    ) -> None:
        self.model, self._data, self._loss, self._validate, self._score = model, data, loss, validate, score
        self._tensors = (data,) if isinstance(data, Tensor) else data if isinstance(data, tuple) else None
        self.samples = len(data if self._tensors is None else self._tensors[0])
        if not self.samples:
            raise ValueError("data is empty; give at least one training sample")

    def checksums(self) -> dict[str, int]:
        """What tells these samples from others: of tensors the content, of a data set the length alone."""
        if self._tensors is None:
            return {"samples": self.samples}
        return {f"tensor {number}": _checksum(tensor) for number, tensor in enumerate(self._tensors)}

    def load(self, at: Moment) -> Any:
        """Rows of the tensors, or the data set's items, collated as torch's DataLoader does."""
        if self._tensors is None:
            return torch.utils.data.default_collate([self._data[number] for number in at.own])
        chosen = tuple(tensor[at.own] for tensor in self._tensors)
        return chosen[0] if isinstance(self._data, Tensor) else chosen

    def losses(self, batch: Any, at: Moment) -> Losses:
        """What the function says."""
        return self._loss(self.model, batch, at)

    def validate(self, report: Report) -> Row:
        """What the function says, without gradients."""
        if self._validate is None:
            return {}
        self.model.eval()
        with torch.no_grad():
            return self._validate(self.model)

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
