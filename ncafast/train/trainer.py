"""One training step: a batch's gradient, in micro-batches and over all processes, and the change of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ncafast.train.arguments import holds_nan, terms_of
from ncafast.train.context import StepContext, TrainingStopped
from ncafast.train.distributed import Ranks
from ncafast.train.job import Job, to_device
from ncafast.train.optimiser import Average, learning_rate, make_optimiser, shape_gradient
from ncafast.train.resume import check_optimiser, take_weights
from ncafast.train.run_folder import RunFolder
from ncafast.training_options import Settings
from ncafast.utils.seeds import mix

_SKIPPED_MOST = 50  # steps in a row without a finite gradient after which fp16's scale is not to blame


class Trainer:
    """A job's model with all that changes its weights: optimiser, fp16's scale, averaged weights."""

    def __init__(self, job: Job, settings: Settings, folder: RunFolder, ranks: Ranks, device: torch.device) -> None:
        self.job, self.settings, self.folder, self.ranks, self.device = job, settings, folder, ranks, device
        self.model = job.model.to(device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError(
                f"the {type(self.model).__name__} has no weight to train: all are frozen, or it has none; "
                "call model.requires_grad_(True)"
            )
        self.optimiser = make_optimiser(self.parameters, settings)
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16")
        self.average = Average(self.model, settings.ema)
        self.batch = settings.batch_size * settings.accumulate * ranks.count
        self.epoch_steps = job.steps_per_epoch(self.batch)
        self.gradient_norm = math.nan  # of the last step, before it was normalised and clipped
        self._skipped = 0  # steps in a row that fp16 has skipped

    def train_on(self, at: StepContext) -> dict[str, float]:
        """Change the weights once; the losses over the whole batch, by name.

        Raises:
            TrainingStopped: the loss or the gradient became infinite or NaN; the weights are as they were.
        """
        self.job.begin_step(at)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings, at.step, self.epoch_steps)
        self.optimiser.zero_grad()
        values = self._gradient(at)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.average.follow()
        kept = torch.cat(at.kept) if at.kept else None
        if kept is not None:
            kept = self.ranks.gather(kept, len(at.numbers), self.settings.accumulate)
        self.job.end_step(at, kept)
        return values

    @property
    def curves(self) -> dict[str, float]:
        """What the last step was taken with: learning rate and gradient norm (not where fp16 skipped the step)."""
        rate = {"learning_rate": self.optimiser.param_groups[0]["lr"]}
        return rate | ({"gradient_norm": self.gradient_norm} if math.isfinite(self.gradient_norm) else {})

    def state(self) -> dict[str, Any]:
        """What a stopped run goes on with."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave. Raises an error if it does not fit."""
        take_weights(self.model, state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        check_optimiser(self.optimiser)
        self.scaler.load_state_dict(state["scaler"])
        self.average.load(state["average"])

    def _gradient(self, at: StepContext) -> dict[str, float]:
        """Leave the batch's gradient in the parameters; its losses by name."""
        terms: dict[str, Tensor] = {}
        for indices in self.ranks.micro_batches(len(at.numbers), self.settings.accumulate):
            for name, value in self._backward(at.at(indices)).items():
                terms[name] = terms[name] + value if name in terms else value
        terms = self._exchange(terms)
        self.scaler.unscale_(self.optimiser)
        norm = shape_gradient(self.parameters, normalise=self.settings.normalise_gradient, clip=self.settings.clip)
        values = dict(zip(terms, torch.stack([*terms.values()]).tolist(), strict=True))
        self.gradient_norm = norm.item()
        self._guard(math.fsum(values.values()), self.gradient_norm, at)
        return values

    def _backward(self, at: StepContext) -> dict[str, Tensor]:
        """Add the gradient of a micro-batch's share of the loss; its losses times that share."""
        batch = to_device(self.job.load(at), self.device)
        torch.manual_seed(mix("torch", self.settings.seed, at.step, at.indices.start))
        with self._autocast():
            terms = terms_of(self.job.losses(batch, at))
        share = len(at.indices) / len(at.numbers)
        terms = {name: value.float() * share for name, value in terms.items()}
        total = sum(terms.values(), start=torch.zeros((), device=self.device))
        self.scaler.scale(total).backward()
        return {name: value.detach() for name, value in terms.items()}

    def _autocast(self) -> torch.autocast:
        dtype = torch.float16 if self.settings.amp == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.settings.amp != "off")

    def _exchange(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses over all processes; their gradients are summed in place."""
        if self.ranks.count == 1:
            return terms
        names = self.ranks.told(list(terms))
        losses = [terms.get(name, torch.zeros((), device=self.device)) for name in names]
        for parameter in self.parameters:
            if parameter.grad is None:  # this process had no sample to spare
                parameter.grad = torch.zeros_like(parameter)
        self.ranks.add_up([*(p.grad for p in self.parameters if p.grad is not None), *losses])
        return dict(zip(names, losses, strict=True))

    def _guard(self, loss: float, norm: float, at: StepContext) -> None:
        """Raise TrainingStopped, before the weights change, when there is nothing to go on with."""
        finite = math.isfinite(norm)
        self._skipped = 0 if finite else self._skipped + 1
        if math.isfinite(loss) and (finite or (self.scaler.is_enabled() and self._skipped < _SKIPPED_MOST)):
            return
        kept = f"; the last good weights are in {self.folder.last}" if self.folder.last.exists() else ""
        what = f"the loss became {loss}" if not math.isfinite(loss) else "the gradient became infinite or NaN"
        remedy = f"a lower lr (now {self.settings.lr:g}) or clip (now {self.settings.clip:g})"
        if self._holds_nan(at):
            what, remedy = f"the data hold NaN or infinite values, so {what}", "data that hold none"
        where = f"in epoch {at.epoch + 1}, step {at.step - at.epoch * self.epoch_steps + 1}"
        raise TrainingStopped(f"{what} {where}{kept}. Train again in another folder and with {remedy}")

    def _holds_nan(self, at: StepContext) -> bool:
        """Whether the samples of this process do."""
        if self.job.state():  # what comes from a pool is the automaton's work
            return False
        indices = self.ranks.micro_batches(len(at.numbers), self.settings.accumulate)
        return any(holds_nan(self.job.load(at.at(each))) for each in indices)
