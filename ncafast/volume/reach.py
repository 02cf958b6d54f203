"""How far one step looks, and which rules can run on parts of a grid."""

from __future__ import annotations

from collections.abc import Sequence

from ncafast.backends.fusable import MEASURED_NORMS
from ncafast.rule import Rule


def reach(rule: Rule) -> tuple[int, ...]:
    """Cells per axis, in each direction, that a cell's next state depends on."""
    filters = [kernel // 2 for kernel in rule.kernel_size] if rule.has_filters else [0] * rule.ndim
    if rule.alive is None:
        return tuple(filters)
    window = rule.alive.pool // 2
    before = window if rule.alive.pre else 0
    if rule.alive.gates == "update":
        return tuple(max(cells, before) for cells in filters)
    return tuple(max(cells + window if rule.alive.post else cells, before) for cells in filters)


def needs_whole_grid(rule: Rule) -> bool:
    """Whether each step needs numbers of the whole grid, so that parts can run one step at a time only."""
    return rule.norm in MEASURED_NORMS or rule.pooled != "none"


def refusal(rule: Rule, cut: Sequence[int] = (0, 1, 2)) -> str | None:
    """Why a rule cannot run on parts of a grid that is cut along these axes, or None."""
    if rule.norm in MEASURED_NORMS and len(rule.hidden) > 1:
        return f"norm={rule.norm!r} with {len(rule.hidden)} hidden layers; parts can share the moments of one"
    if rule.hidden_dropout > 0.0:
        return "hidden_dropout, whose draws go by the cell of a whole grid; use rule.for_eval() or hidden_dropout=0.0"
    if rule.noise != "none" and rule.noise_std > 0.0:
        return "noise, whose draws go by the cell of a whole grid; use noise='none'"
    if cut and rule.alive is not None and rule.alive.pool > 1 and rule.alive.wrap != (rule.padding == "circular"):
        return (
            f"padding={rule.padding!r} with alive.wrap={rule.alive.wrap}: filters and alive mask must both go on at "
            "the other side of the grid, or neither"
        )
    return None
