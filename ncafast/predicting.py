"""predict(), record() and validate() of every model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ncafast import check
from ncafast.convergence import Convergence
from ncafast.evaluating import evaluating
from ncafast.keywords import refuse_unknown
from ncafast.levels import LevelsOutput
from ncafast.prediction import Channels, Prediction
from ncafast.trace import drawn_seed
from ncafast.values import shown, whole

Metric = Callable[[Prediction, Any], Any]


class Predicting(nn.Module):
    """A model with `predict`, `record` and `validate`."""

    channels_last = False
    """Whether states are [B, *S, C] in a call of the model, and not [B, C, *S]."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As of any module; where the tensors are those of another model, the error names that one too.

        Raises:
            RuntimeError: they do not fit.
        """
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            said = importlib.import_module("ncafast.identify").said_of(
                state_dict
            )  # knows all models, above this module
            if not said:
                raise
            raise RuntimeError(f"{error}\n\t{said}") from None

    def predict(
        self,
        image: Tensor,  # [B, image channels, *S], or [B, C, *S]
        steps: Any = None,
        *,
        until: Convergence | None = None,
        seed: int | Tensor | None = None,
        first_step: int = 0,
        first_sample: int = 0,
        backend: str | None = None,
        **options: Any,
    ) -> Prediction:
        """Run the model without gradients and in evaluation mode, which it leaves again.

        Args:
            image: channels first for every model: an image of channels that the model does not change, behind which the
                state starts as the model starts it; or a state, which is all that growing and texture models take.
            steps: a number or a range (min, max), of a cascade a number for each level; None takes the model's own.
            until: stop each sample where it has converged, on each level; `steps` are the most then, and the fire
                masks those of a run without it. Under norm "batch" all samples stop together.
            seed: of the fire masks and of what else is drawn; None draws one from torch's generator.
            first_step: absolute index of the first step.
            first_sample: absolute index of the first sample.
            backend: as in `ncafast.rollout`.
            **options: extra and film, as in `ncafast.rollout`, where the model's call takes them.

        Raises:
            TypeError, ValueError: an image that does not fit, or what the model's call refuses.
        """
        refuse_unknown(f"{type(self).__name__}.predict", options, (*_OPTIONS, "until"))
        if not isinstance(until, (Convergence, type(None))):
            raise TypeError(f"until must be an ncafast.Convergence, got {type(until).__name__}")
        where = {"first_step": first_step, "first_sample": first_sample, "backend": backend}
        _check_call(self)
        channels = self._channels()
        with torch.no_grad(), evaluating(self):
            seed = _seed(seed, image)
            stop = None if until is None else _watching(until, channels)
            done = self._levels_output(image, steps, until=stop, seed=seed, **where, **options)
            head = self._head(done.state)
        if until is None:
            return Prediction(done.state, channels, _taken(done.steps, len(done.state)), head_prediction=head)
        taken, converged = (torch.stack([getattr(s, name) for s in done.settled], 1) for name in ("steps", "converged"))
        together = any(each.together for each in done.settled)
        return Prediction(done.state, channels, taken, converged, together, head)

    def record(
        self,
        image: Tensor,
        steps: Any = None,
        *,
        every: int = 1,
        seed: int | Tensor | None = None,
        first_step: int = 0,
        first_sample: int = 0,
        backend: str | None = None,
        **options: Any,
    ) -> list[Prediction]:
        """A prediction after every `every` steps, of all levels one after the other, each on its own grid.

        The states are views of one tensor per level, so the memory is that of all of them. Arguments and errors as for
        `predict`, whose result with the same seed is the last one where `every` divides the steps.
        """
        refuse_unknown(f"{type(self).__name__}.record", options, (*_OPTIONS, "every"))
        where = {"first_step": first_step, "first_sample": first_sample, "backend": backend}
        _check_call(self)
        channels, every = self._channels(), whole("every", every, 1)
        found: list[Prediction] = []
        with torch.no_grad(), evaluating(self):
            done = self._levels_output(image, steps, states=every, seed=_seed(seed, image), **where, **options)
            for level, kept in enumerate(done.kept):
                head = self._head(kept.flatten(0, 1)) if len(kept) else None
                heads = [None] * len(kept) if head is None else list(head.unflatten(0, kept.shape[:2]))
                for number, (state, said) in enumerate(zip(kept, heads, strict=True), start=1):
                    counts = (*done.steps[:level], number * every, *[0] * (len(done.steps) - level - 1))
                    found.append(Prediction(state, channels, _taken(counts, len(state)), head_prediction=said))
        return found

    def validate(
        self,
        batches: Iterable[tuple[Tensor, Any]],
        metrics: Mapping[str, Metric],
        steps: Any = None,
        *,
        seed: int | Tensor | None = None,
        **options: Any,
    ) -> tuple[dict[str, float], list[Prediction]]:
        """Predict batches and compare with what is known of them.

        Args:
            batches: pairs (image, target), such as a DataLoader's; both go to the model's device.
            metrics: by name, functions of a prediction and a target, which return a number for the batch or one for
                each sample, [B].
            steps: as for `predict`.
            seed: as for `predict`; with it, results do not depend on how samples are divided into batches, but under
                norm "batch".
            **options: of `predict`, but for first_sample.

        Returns:
            The mean of each metric over all samples, and the predictions, on the CPU.

        Raises:
            TypeError, ValueError: no samples, batches that are no pairs, a metric that returns something else, or what
                `predict` refuses.
        """
        if not isinstance(metrics, Mapping):
            raise TypeError(f"metrics must be functions by name, as {{'mse': ...}}, got {type(metrics).__name__}")
        sums, count, found = dict.fromkeys(metrics, 0.0), 0, []
        device = next(self.parameters()).device
        seed = drawn_seed(seed, device, True)
        for batch in batches:
            image, target = (each.to(device) if isinstance(each, Tensor) else each for each in _pair(batch))
            prediction = self.predict(image, steps, seed=seed, first_sample=count, **options)
            for name, metric in metrics.items():
                sums[name] += _total(name, metric(prediction, target), len(prediction.state))
            count += len(prediction.state)
            found.append(prediction.cpu())
        if not count:
            raise ValueError("batches hold no samples")
        return {name: total / count for name, total in sums.items()}, found

    def _levels_output(self, image: Tensor, steps: Any, **options: Any) -> LevelsOutput:
        """Run all levels on states [B, C, *S], with options of `ncafast.levels.run_levels`."""
        raise NotImplementedError

    def _channels(self) -> Channels:
        """Which channels are what."""
        raise NotImplementedError

    def _head(self, state: Tensor) -> Tensor | None:
        """What the model's head says of a state [B, C, *S]."""
        return None


_OPTIONS = ("steps", "seed", "first_step", "first_sample", "backend", "extra", "film")


def _check_call(model: nn.Module) -> None:
    """Raise ValueError for a model whose call does more than its class in ncafast, which is not called here."""
    name, kinds = type(model).__name__, type(model).__mro__
    forward = next(kind for kind in kinds if "forward" in vars(kind))
    if any(kind.__module__.startswith("ncafast.volume.") for kind in kinds):
        what = "is sharded"
    elif "forward" in vars(model) or not forward.__module__.startswith("ncafast."):
        what = "has a forward of its own"
    elif model._forward_hooks or model._forward_pre_hooks:
        what = "has forward hooks"
    else:
        return
    raise ValueError(f"this {name} {what}, which predict() and record() do not run; call the model itself")


def _seed(seed: int | Tensor | None, image: Tensor) -> Tensor:
    check.check_floating("image", image)
    return drawn_seed(seed, image.device, True)


def _watching(until: Convergence, channels: Channels) -> Convergence:
    """With the channels whose change counts: of a model without hidden ones the output, or all."""
    if until.channels is not None:
        return until
    some = next((part for part in (channels.hidden, channels.output) if part.stop > part.start), slice(None))
    return replace(until, channels=some)


def _taken(steps: tuple[int, ...], batch: int) -> Tensor:
    return torch.tensor(steps, dtype=torch.int64).expand(batch, -1)


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        what = f"{len(batch)} things" if isinstance(batch, (tuple, list)) else f"a {type(batch).__name__}"
        raise TypeError(f"batches must give pairs (image, target), got {what}")
    return batch[0], batch[1]


def _total(name: str, value: Any, batch: int) -> float:
    """The sum over samples of what a metric returns."""
    try:
        found = torch.as_tensor(value, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"metrics[{name!r}] returned a {type(value).__name__}; a number is needed") from None
    if found.dim() == 0:
        return float(found) * batch
    if found.shape != (batch,):
        raise ValueError(
            f"metrics[{name!r}] returned shape {shown(list(found.shape))}; a number is needed, or one for each of the "
            f"{batch} samples"
        )
    return float(found.sum())
