"""`ncafast explain module:Class`: what `ncafast.accelerate` would do with a user's module, without a line of code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ncafast import parsers
from ncafast.acceleration import Report, explain
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
    for shape in _shapes(given.shape):
        report = explain(model, method=given.method, steps=given.steps, **shape)
        if _found(report):
            break
    print(report)
    return 0 if _found(report) else 1


def _found(report: Report) -> bool:
    return any(finding.rule is not None for finding in report.findings)


def _shapes(shape: str) -> Iterator[dict[str, Any]]:
    """What is known of the state: channels are behind the batch, or last."""
    if not shape:
        yield {}
        return
    sizes = lengths("--shape", shape)
    for channels, last in ((sizes[1], False), (sizes[-1], True)):
        yield {"channels": channels, "ndim": len(sizes) - 2, "channels_last": last}
