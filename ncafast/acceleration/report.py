"""What was found in a model, for people."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ncafast.acceleration.assemble import Match
from ncafast.acceleration.entry import Entry, Example
from ncafast.rule import Rule


def described(rule: Rule) -> str:
    """A rule in a line: what is not as by default, but for its filters, padding and fire rate."""
    parts = [rule.summary(), f"padding {rule.padding}", f"fire rate {rule.fire_rate:g}"]
    if rule.activation != "relu":
        slope = f" {rule.negative_slope:g}" if rule.activation == "leaky_relu" else ""
        parts.append(f"activation {rule.activation}{slope}")
    if rule.dense_activation != "identity":
        parts.append(f"{rule.dense_activation} of the perception")
    if rule.step_size != 1:
        parts.append(f"step size {rule.step_size:g}")
    if rule.extra:
        parts.append(f"{rule.extra} extra channels")
    if rule.mutable is not None:
        parts.append(f"channels {rule.lo} to {rule.hi - 1} change")
    if rule.alive is not None:
        what = "update gated by" if rule.alive.gates == "update" else "alive mask of"
        parts.append(f"{what} channel {rule.alive.channel} above {rule.alive.threshold:g}")
    if rule.hidden_dropout:
        parts.append(f"dropout {rule.hidden_dropout:g} of hidden units")
    if rule.update_activation != "identity":
        parts.append(f"{rule.update_activation} of the update")
    if rule.clamp is not None:
        parts.append(f"state clamped to {list(rule.clamp)}")
    return ", ".join(parts)


@dataclass
class Finding:
    """One module: its entry point and step, or the reason why it keeps its own code."""

    name: str
    module: nn.Module
    entry: Entry | None
    match: Match | None
    reason: str | None = None
    example: Example | None = None  # the call that was looked at
    forward: str | None = None  # what becomes of the module's forward, where another method is accelerated

    @property
    def rule(self) -> Rule | None:
        """The step that was found, or None."""
        return None if self.match is None else self.match.rule

    def __str__(self) -> str:
        if self.match is None or self.entry is None:
            return f"{self.name}: not accelerated. {self.reason}"
        forward = "" if self.forward is None else f". {self.forward}"
        return f"{self.name}: {self.entry.method} is accelerated. {described(self.match.rule)}{forward}"


@dataclass
class Report:
    """All modules of a model that were looked at."""

    findings: list[Finding]

    def __str__(self) -> str:
        return "\n".join(map(self._line, self.findings)) or "no module of this model has parameters and code of its own"

    def _line(self, finding: Finding) -> str:
        """A module that is not accelerated, but calls modules that are, is said to be one."""
        inside = set(finding.module.modules())
        parts = sum(other.match is not None and other.module in inside for other in self.findings)
        if finding.match is not None or not parts:
            return str(finding)
        calls = "a part of it is" if parts == 1 else f"{parts} parts of it are"
        return f"{finding.name}: not accelerated as a whole, but {calls}. {finding.reason}"
