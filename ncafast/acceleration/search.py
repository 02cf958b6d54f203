"""The search for one entry point's step, and the proof; a reason in words where either fails."""

from __future__ import annotations

import torch
from torch import nn

from ncafast import backends
from ncafast.acceleration.adapted import adapted, adapted_match
from ncafast.acceleration.aside import aside
from ncafast.acceleration.assemble import Match
from ncafast.acceleration.entry import Entry, Example
from ncafast.acceleration.errors import NotAccelerated, at_exception
from ncafast.acceleration.match import Shape, find_match
from ncafast.acceleration.repeats import check_loop, check_size
from ncafast.acceleration.verify import verify


def search(module: nn.Module, entry: Entry, example: Example, shape: Shape, proof: bool) -> Match | str:
    """Find and verify; the reason where that fails. torch's random state is left as it was."""
    with aside(module):
        try:
            said = adapted(module)
            if said is not None and said.method == entry.method:
                match = adapted_match(module, said, entry, example)
            else:
                match = find_match(module, entry, example, shape)
            if proof:
                verify(module, match)
            if said is None and entry.steps is not None:
                check_loop(module, match, example.rest, 3)
            if said is None:
                check_size(module, match, 1, (64,) * match.rule.ndim)
            return reason if (reason := unfused(module, match)) else match
        except NotAccelerated as reason:
            return str(reason)
        except Exception as error:  # a foreign module may hold what nobody thought of; it then keeps its own code
            return f"the search failed: {at_exception(error)}"


def unfused(module: nn.Module, match: Match) -> str | None:
    """Why no fused backend runs a rule on the module's device and in its dtype."""
    like = next(iter(module.parameters()))
    x = torch.empty(1, match.rule.channels, *[16] * match.rule.ndim, dtype=like.dtype, device=like.device)
    reasons = backends.explain(match.rule, x)
    if any(reason is None for name, reason in reasons.items() if name != "reference"):
        return None
    meant = [reason for name, reason in reasons.items() if getattr(backends.get(name), "DEVICE", None) == x.device.type]
    return f"the rule was found, but no fused backend runs it here: {meant[-1] if meant else x.device.type}"
