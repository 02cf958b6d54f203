"""Attributes that a step writes and that do not matter: grids of positions that are kept for the next call."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ncafast.acceleration.double import Double, plain_attributes
from ncafast.acceleration.errors import NotAccelerated
from ncafast.acceleration.opened import opened
from ncafast.acceleration.sample import Sample
from ncafast.acceleration.structure import Names, differences, freeze, structure


def caches(module: nn.Module, sample: Sample, names: Names) -> Names:
    """The attributes that a step writes, where it does not matter whether it does.

    They must depend on shapes alone, and no later result on them: on this grid, on another, and on this again.

    Raises:
        NotAccelerated: a step changes the module in another way.
    """
    used = copy.deepcopy(module)
    _results(used, sample, 0)
    before = structure(used)
    freeze(before)
    _results(used, sample, 1)
    plain = all(name in dict(plain_attributes(used.get_submodule(owner))) for owner, name in names)
    calls = (sample.elsewhere(), sample)
    if plain and not differences(before, structure(used)) and all(_same(module, used, call) for call in calls):
        return names
    changed = ", ".join(f"`{owner}.{name}`" if owner else f"`{name}`" for owner, name in sorted(names))
    raise NotAccelerated(f"a step changes the module's {changed}, and what it computes may depend on that")


def _same(module: nn.Module, used: nn.Module, sample: Sample) -> bool:
    """Whether a copy that was used gives what a new one gives."""
    got, want = _results(used, sample, 2), _results(copy.deepcopy(module), sample, 2)
    return len(got) == len(want) and all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def _results(module: nn.Module, sample: Sample, seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    x = sample.state(next(iter(module.parameters())))
    with Double(), torch.no_grad():
        return opened(sample.entry.call(module, x + torch.rand_like(x), 1, sample.rest))[0]
