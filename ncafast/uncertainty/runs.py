"""Several runs of a module that draws random numbers, as one batch: where their outputs differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ncafast.evaluating import evaluating
from ncafast.uncertainty.calls import check_options
from ncafast.uncertainty.modes import dropping
from ncafast.uncertainty.result import Moments, Read, Reduce, Uncertainty, first_output, spread
from ncafast.values import whole


@torch.no_grad()
def nqm(
    model: Callable[..., Any],
    x: Tensor,  # [B, ...]
    runs: int = 10,
    *,
    read: Read | None = None,
    reduce: Reduce = "mean",
    at_once: int | None = None,
    **options: Any,
) -> Uncertainty:
    """Run a module several times with different firing cells; the map is the standard deviation over the runs.

    The runs are samples of one batch, so that an automaton takes one rollout for all of them. A module is in
    evaluation mode meanwhile.

    Args:
        model: an `NCA`, one of `ncafast.models`, or any other module or function of a batch.
        x: its input; any further one goes into `options`, as long as it has no axis of samples.
        runs: at least 2.
        read: makes of the module's output what is compared, [B, ...], such as `torch.sigmoid`; None takes the output,
            of several the first.
        reduce: how the map becomes a score: its "mean" or "max"; or "nqm", the sum of the deviation divided by the sum
            of the mean, for which the outputs have to be probabilities.
        at_once: runs in one batch; None means all. Fewer need less memory.
        **options: of the model's call, such as steps and seed, where it takes them; without `seed` it draws what
            `torch.manual_seed` says. With `seed` the result does not depend on `at_once`, but
            where a norm takes statistics of the batch; the model then has to take `first_sample` too.

    Returns:
        Map and mean over the runs in the output's shape, score [B].

    Raises:
        TypeError: an option that the model's call does not take.
        ValueError: fewer than 2 runs, or outputs that "nqm" cannot be taken of.
    """
    with evaluating(model):
        return _spread_of_runs(model, x, runs, read or first_output, reduce, at_once, options)


@torch.no_grad()
def mc_dropout(
    model: nn.Module,
    x: Tensor,  # [B, ...]
    runs: int = 10,
    *,
    read: Read | None = None,
    reduce: Reduce = "mean",
    at_once: int | None = None,
    **options: Any,
) -> Uncertainty:
    """As `nqm`, with units dropped as in training (Gal and Ghahramani, "Dropout as a Bayesian Approximation", 2016).

    Dropped are the hidden units of an `NCA` with `hidden_dropout`, and what torch's dropout layers drop; norms stay in
    evaluation mode. The runs' fire masks differ too, as they do in `nqm`.

    Args:
        model: a module with dropout.
        x: as for `nqm`.
        runs: as for `nqm`.
        read: as for `nqm`.
        reduce: as for `nqm`.
        at_once: as for `nqm`.
        **options: as for `nqm`.

    Raises:
        TypeError: as `nqm`.
        ValueError: a module without dropout, or what `nqm` refuses.
    """
    with dropping(model):
        return _spread_of_runs(model, x, runs, read or first_output, reduce, at_once, options)


def _spread_of_runs(
    model: Callable[..., Any],
    x: Tensor,
    runs: int,
    read: Read,
    reduce: Reduce,
    at_once: int | None,
    options: dict[str, Any],
) -> Uncertainty:
    runs = whole("runs", runs, 2)
    at_once = runs if at_once is None else whole("at_once", at_once, 1)
    moments, dtype = Moments(), torch.float32
    for outputs in _outputs(model, x, runs, at_once, read, options):
        moments.add(outputs)
        dtype = torch.promote_types(torch.float32, outputs.dtype)
    return spread(moments, reduce, dtype)


def _outputs(
    model: Callable[..., Any], x: Tensor, runs: int, at_once: int, read: Read, options: dict[str, Any]
) -> Iterator[Tensor]:
    """What is compared, [n, B, ...] for n runs at a time."""
    begin, seeded = options.get("first_sample", 0), options.get("seed") is not None
    check_options(model, (*options, *(["first_sample"] if seeded and at_once < runs else [])))
    for first in range(0, runs, at_once):
        count = min(at_once, runs - first)
        if first and seeded:  # other masks than those of the runs before
            options = options | {"first_sample": begin + first * len(x)}
        output = read(model(x.repeat(count, *[1] * (x.dim() - 1)), **options))
        yield output.unflatten(0, (count, len(x)))
