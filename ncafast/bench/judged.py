"""Whether a provider is right at a problem: the checks of its problem, compared as `parity` says."""

from __future__ import annotations

import math

from ncafast.bench import parity
from ncafast.bench.parity import Verdict
from ncafast.bench.problem import Check
from ncafast.bench.providers import Provider, Runner


def verdict(provider: Provider, runner: Runner, training: bool) -> Verdict:
    """At the size that is timed, gradients loosely; then gradients strictly, on any of several small inputs."""
    whole = _compared(provider, runner, runner.problem.whole, training, loose=True)
    if whole.wrong is not None or not training or math.isnan(whole.gradient):
        return whole
    for check in runner.problem.strict:
        small = _compared(provider, runner, check, training, loose=False)
        if small.wrong is None:
            break
    return Verdict(whole.state, small.gradient, small.wrong)


def _compared(provider: Provider, runner: Runner, check: Check, training: bool, loose: bool) -> Verdict:
    plain, exact = runner.problem.answer(check, training, provider.every_cell)
    found = runner.check(check, training)
    return parity.judge(found, plain, exact, check.size.cells, not provider.state_only, loose, provider.rounding)
