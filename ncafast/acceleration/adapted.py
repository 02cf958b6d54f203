"""A match from what an adapter says; `verify` then compares it with the module as any other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from ncafast.acceleration.adapters import Adapted, adapter_of
from ncafast.acceleration.assemble import Match
from ncafast.acceleration.entry import Entry, Example
from ncafast.acceleration.errors import NotAccelerated, at_exception
from ncafast.acceleration.given import roles_of
from ncafast.acceleration.graph import named_tensors
from ncafast.acceleration.layout import distinct_grid
from ncafast.acceleration.mapping import parameter_mapping
from ncafast.acceleration.sample import Sample
from ncafast.acceleration.structure import check_hooks


class Drawn:
    """Who fires, where an adapter says how the module draws it."""

    replays = True

    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        self.draw = draw


class Everything(set[Any]):
    """Batches and grid sizes for which an adapter answers: all."""

    def __contains__(self, _: object) -> bool:
        return True


def adapted(module: nn.Module) -> Adapted | None:
    """What the module's adapter says of it, if there is one.

    Raises:
        NotAccelerated: it fails, or says what cannot be verified.
    """
    adapt = adapter_of(module)
    if adapt is None:
        return None
    try:
        said = adapt(module)
    except Exception as error:  # whatever another package's code raises
        raise NotAccelerated(f"its adapter fails: {at_exception(error)}") from error
    if said is None:
        return None
    if not isinstance(said, Adapted):
        raise NotAccelerated(f"its adapter returns a {type(said).__name__}, not an ncafast.Adapted or None")
    if said.rule.fire_rate < 1 and said.draw is None:
        raise NotAccelerated(f"its adapter names a fire rate of {said.rule.fire_rate:g}, but not how the module draws")
    if said.rule.extra or said.rule.hidden_dropout or said.rule.noise != "none":
        raise NotAccelerated("its adapter names a rule with extra channels, noise or dropout, which cannot be verified")
    return said


def adapted_match(module: nn.Module, said: Adapted, entry: Entry, example: Example) -> Match:
    """The match that an adapter means.

    Args:
        module: the user's.
        said: what its adapter says.
        entry: the method that the adapter names.
        example: a call of it.
    """
    check_hooks(module)
    grid = distinct_grid(module, said.rule.channels, said.rule.ndim, said.channels_last)
    sample = Sample(entry, example.rest, roles_of(example.rest, grid.batch, grid.sizes), grid)
    own = [t.detach() for t in named_tensors(module).values()]
    firing: Any = Drawn(said.draw) if said.draw is not None else None
    found = Match(said.rule, parameter_mapping(_parameters(module, said), own), firing, sample)
    found.checked_steps, found.checked_sizes = sys.maxsize, Everything()
    return found


def _parameters(module: nn.Module, said: Adapted) -> Callable[[Sequence[Tensor]], dict[str, Tensor]]:
    """The rule's tensors from the module's, whichever these are."""
    names, asked = list(named_tensors(module)), _Asked(module, said)

    def compute(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        named = {f"module.{name}": tensor for name, tensor in zip(names, tensors, strict=True)}
        found: dict[str, Tensor] = functional_call(asked, named, ())
        wanted = said.rule.param_shapes()
        if set(found) != set(wanted):
            raise NotAccelerated(f"its adapter gives {', '.join(found)}; the rule has {', '.join(wanted)}")
        return {name: found[name].reshape(shape) for name, shape in wanted.items()}

    return compute


class _Asked(nn.Module):
    def __init__(self, module: nn.Module, said: Adapted) -> None:
        super().__init__()
        self.module, self.said = module, said

    def forward(self) -> dict[str, Tensor]:
        return self.said.parameters(self.module)
