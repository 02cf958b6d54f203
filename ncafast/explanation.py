"""`ncafast explain module:Class`: what `ncafast.accelerate` would do with a user's module, without a line of code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ncafast import parsers
from ncafast.acceleration import SAY_EXAMPLE, SAY_METHOD, NotAccelerated, Report, explain
from ncafast.acceleration.match import SAY_SHAPE
from ncafast.user_class import build, lengths, load_class


def main(words: Sequence[str]) -> int:
    """Print what was found. Returns 1 if nothing can be accelerated.

    Raises:
        SystemExit: --help, or an option that is unknown.
        ValueError: a class, its arguments or a shape that cannot be used.
    """
    given = parsers.explain().parse_args(list(words))
    cls = load_class("explain", given.where)
    model = build(f"explain {given.where}", cls, "--args", given.args)
    reports = []
    for shape in _shapes(given.shape):
        reports.append(explain(model, method=given.method, steps=given.steps, **shape))
        if _found(reports[-1]):
            break
    if given.shape and not _found(reports[-1]):
        reports += _with_input(model, lengths("--shape", given.shape), given.method, given.steps)
    best = max(reports, key=lambda report: (_found(report), _steps(report)))  # of several alike the first
    print(_as_options(str(best), given.shape))
    return 0 if _found(best) else 1


def _with_input(model: nn.Module, shape: Sequence[int], method: str | None, steps: str | None) -> Iterator[Report]:
    """What is found where the shape is that of an input from which the model makes its state, if it takes that."""
    try:
        yield explain(model, torch.rand(*shape), method=method, steps=steps)
    except NotAccelerated:
        return


def _found(report: Report) -> bool:
    return any(finding.rule is not None for finding in report.findings)


def _steps(report: Report) -> bool:
    """Whether a state of the shape was taken, and what it lacks is a rule."""
    return not any(SAY_SHAPE in (finding.reason or "") for finding in report.findings)


def _as_options(text: str, shape: str) -> str:
    """What a report says, with the options of the command in place of Python's arguments."""
    text = text.replace(SAY_SHAPE, f"--shape {shape} may not be its shape" if shape else "--shape says its shape")
    text = text.replace(SAY_METHOD, "name one with --method")
    return text.replace(SAY_EXAMPLE, "in Python, give an example of the model's inputs: ncafast.explain(model, x, ...)")


def _shapes(shape: str) -> Iterator[dict[str, Any]]:
    """What is known of the state: channels are behind the batch, or last."""
    if not shape:
        yield {}
        return
    sizes = lengths("--shape", shape)
    for channels, last in ((sizes[1], False), (sizes[-1], True)):
        yield {"channels": channels, "ndim": len(sizes) - 2, "channels_last": last}
