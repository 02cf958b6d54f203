"""The search for a step in a module: what state it takes, and what it does with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ncafast.acceleration.assemble import Match, assemble
from ncafast.acceleration.caches import caches
from ncafast.acceleration.double import Double, double_copy, plain_attributes, unchanged
from ncafast.acceleration.entry import Entry, Example
from ncafast.acceleration.errors import NotAccelerated, at_exception
from ncafast.acceleration.given import doubled, possible_roles, roles_of
from ncafast.acceleration.graph import named_tensors
from ncafast.acceleration.layout import distinct_grid
from ncafast.acceleration.sample import Sample
from ncafast.acceleration.structure import Names, check_hooks, differences, structure

_NOISE = 0.1  # added to parameters: layers that start at zero would hide what they do
_MOST_WEIGHTS = 5_000_000  # of a module that is looked at
_WIDEST = 512  # channels of a state that is looked for
SAY_SHAPE = "channels= and ndim= say its shape"
AROUND = (
    "where layers before or behind the steps make another shape, torch.compile(model, backend='ncafast') finds the "
    "steps inside"
)
_ATTEMPTS = 4  # states that a step takes, before the search ends


@dataclass(frozen=True)
class Shape:
    """What the user says about the state; None is found out."""

    channels: int | None = None
    ndim: int | None = None
    channels_last: bool | None = None


def find_match(module: nn.Module, entry: Entry, example: Example, shape: Shape) -> Match:
    """Find the step that an entry point runs.

    Args:
        module: the user's module, which is left as it is.
        entry: the method.
        example: its other arguments, and a state where there is one.
        shape: what the user says of the state.

    Raises:
        NotAccelerated: with the reason.
    """
    check_hooks(module)
    weights = sum(p.numel() for p in module.parameters())
    if weights > _MOST_WEIGHTS:
        raise NotAccelerated(f"it has {weights} parameters, more than an automaton of {_MOST_WEIGHTS}")
    twin = double_copy(module)
    add_noise(twin)
    stepped: list[str] = []  # why a state that a step takes leads to no rule
    failed: list[str] = []  # why a state is none that a step takes
    for sample in _samples(twin, entry, example, shape):
        taken = _try_state(twin, sample)
        if isinstance(taken, str):
            failed.append(taken)
            continue
        states, kept = taken
        for pick in states:
            try:
                return replace(assemble(twin, replace(sample, pick=pick)), caches=kept)
            except NotAccelerated as error:
                stepped.append(str(error))
        if len(stepped) >= _ATTEMPTS:
            break
    if stepped:
        raise NotAccelerated(stepped[0])
    changed = next((reason for reason in failed if entry.method in reason.split()), None)
    said = changed or (failed[0] if failed else "no weights")
    around = f"; {AROUND}" if changed else ""
    raise NotAccelerated(f"no state was found that it steps ({said}){around}; {SAY_SHAPE}")


def _samples(twin: nn.Module, entry: Entry, example: Example, shape: Shape) -> Iterator[Sample]:
    """Calls of one step that the method may take, likely ones first."""
    for channels, ndim, last in _shapes(twin, shape, example.x):
        grid = distinct_grid(twin, channels, ndim, last)
        batch, sizes = -1, list[int]()
        if example.x is not None:
            batch, _, *sizes = grid.inward(example.x).shape
        for roles in possible_roles(roles_of(example.rest, batch, sizes), example.rest):
            yield Sample(entry, example.rest, roles, grid).on(grid.batch, grid.sizes, 1, doubled(example.rest))


def _try_state(twin: nn.Module, sample: Sample) -> tuple[list[int], Names] | str:
    """Which results may be the next state, and what the step keeps; or why it does not take such a state.

    Raises:
        NotAccelerated: the step changes its module.
    """
    before = structure(twin)
    try:
        with unchanged(twin), Double(), torch.no_grad():
            x = sample.state(next(iter(named_tensors(twin).values())))
            states = sample.entry.states(x, sample.entry.call(twin, x, 1, sample.rest))
            names = differences(before, structure(twin))
    except NotAccelerated as error:
        return str(error)
    except Exception as error:  # of the user's code, on a state of another shape than it takes
        return at_exception(error)
    return states, caches(twin, sample, names) if names else names


def add_noise(module: nn.Module) -> None:
    """Move every parameter a little: layers that start at zero would hide what they do."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point():
                parameter.add_(_NOISE * (torch.rand(parameter.shape, dtype=torch.float64) - 0.5).to(parameter.device))


def _shapes(module: nn.Module, shape: Shape, x: Tensor | None) -> Iterator[tuple[int, int, bool]]:
    """(channels, axes, channels last) that a state may have, likely ones first."""
    if x is not None:
        found = [(x.shape[1], x.dim() - 2, False), (x.shape[-1], x.dim() - 2, True)]
        for one in found:
            if all(
                want in (None, has)
                for want, has in zip((shape.channels, shape.ndim, shape.channels_last), one, strict=True)
            ):
                yield one
        return
    held = [value for part in module.modules() for _, value in plain_attributes(part)]
    tensors = [*named_tensors(module).values(), *(value for value in held if isinstance(value, Tensor))]
    wide = [tensor for tensor in tensors if tensor.dim() > 1]
    sizes = {size for tensor in wide for size in tensor.shape[:2]}
    sizes |= {tensor.shape[1] // k for tensor in wide for k in range(2, 7) if tensor.shape[1] % k == 0}
    ints = [value for value in held if type(value) is int]
    channels = [*(size for size in ints if size in sizes), *sorted(sizes - set(ints)), *ints]
    axes = [tensor.dim() - 2 for tensor in wide if 3 <= tensor.dim() <= 5]
    axes = sorted(set(axes), key=axes.count, reverse=True) or [2]
    channels = (
        [shape.channels] if shape.channels is not None else [c for c in dict.fromkeys(channels) if 1 < c <= _WIDEST]
    )
    axes = [shape.ndim] if shape.ndim is not None else list(dict.fromkeys([*axes, 2, 3, 1]))
    lasts = [shape.channels_last] if shape.channels_last is not None else [False, True]
    yield from ((c, n, last) for n in axes for c in channels for last in lasts)
