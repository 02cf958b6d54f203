"""Rollouts that several processes do slab by slab, and one process as a whole."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import Any

import torch
from cases import make_extra, make_params, make_state

from ncafast import NCA, Alive, Rule, rollout
from ncafast.models import M3DNCA
from ncafast.volume.slabs import rollout_sharded

SEED = 2**63 + 7


@dataclass
class Case:
    """A rollout on a grid of which rank r holds `sizes[r]` cells along axis `dim`."""

    rule: Rule
    size: tuple[int, ...]  # of the grid
    sizes: tuple[int, ...]
    dim: int = 2
    steps: int = 4
    dtype: torch.dtype = torch.float64
    extra: tuple[int, ...] | None = None  # its shape
    per: int | None = None  # steps per exchange
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert sum(self.sizes) == self.size[self.dim - 2]
        backend = "reference" if self.dtype is torch.float64 else None
        self.options = {"seed": SEED, "first_step": 3, "first_sample": 2, "backend": backend, **self.options}

    def slab(self, whole: torch.Tensor | None, rank: int) -> torch.Tensor | None:
        """A rank's part of a tensor of the grid."""
        if whole is None:
            return None
        dim = self.dim - self.rule.ndim - 2
        if whole.shape[dim] == 1:
            return whole.clone()
        return whole.split(self.sizes, dim)[rank].clone()


def random_case(number):
    """A case drawn from all that a rule on slabs may be."""
    r = random.Random(number)
    ndim, wraps = r.choice([1, 2, 2, 3]), r.random() < 0.3
    padding = "circular" if wraps else r.choice(["zeros", "reflect", "replicate"])
    channels, kernel = r.randint(3, 5), tuple(r.choice([1, 3, 3, 5]) for _ in range(ndim))
    norm = r.choice(["none", "none", "none", "batch", "running", "group", "instance", "layer"])
    pooled = r.choice(["none", "none", "none", "mean", "max"])
    alive = Alive(threshold=0.4, pool=r.choice([3, 3, 5]), pre=r.random() < 0.7, wrap=wraps, channel=2)
    rule = Rule(
        channels=channels, ndim=ndim, kernel_size=kernel, padding=padding, norm=norm, pooled=pooled,
        norm_groups=r.choice([1, 2]), extra=r.choice([0, 0, 2]), hidden=(r.choice([4, 6]),),
        num_filters=r.choice([0, 1, 2]), alive=alive if r.random() < 0.3 else None,
        fire_rate=r.choice([0.4, 0.5, 1.0]), activation=r.choice(["relu", "gelu", "tanh"]),
    )  # fmt: skip
    sizes = [r.randint(1, 7) for _ in range(r.choice([2, 3]))]
    sizes[0] = max(sizes[0], 5)  # the grid must be longer than a filter's reach
    axis = r.randrange(ndim)
    size = tuple(sum(sizes) if at == axis else r.randint(4, 7) for at in range(ndim))
    steps, extra = r.randint(1, 5), None
    if rule.extra:
        extra = (*r.choice([(), (steps,)]), r.choice([1, 2]), 2, *(cells if r.random() < 0.7 else 1 for cells in size))
    measured = norm in ("batch", "group", "instance") or pooled != "none"
    per = None if measured else r.choice([None, 1, 2, 3, 5])
    return Case(rule, size, tuple(sizes), axis + 2, steps, extra=extra, per=per)


def inputs(case):
    """State, parameters, extra channels and the weights of the loss, of the whole grid."""
    params = make_params(case.rule, torch.float32, seed=2)
    if case.rule.fire_rate == 0.3:  # the state counts how often a cell has fired
        params["update.weight"].zero_(), params["update.bias"].fill_(1.0)
    x = make_state(case.rule, case.size, torch.float32, 2, seed=1)
    extra = make_extra(case.rule, case.size, torch.float32, shape=case.extra, seed=3)
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    x, extra, weight = (None if value is None else value.to(case.dtype) for value in (x, extra, weight))
    return x, {name: p.to(case.dtype) for name, p in params.items()}, extra, weight


def whole(case):
    """(x_T, gradients of x, the learned parameters and extra) of one process."""
    x, params, extra, weight = inputs(case)
    leaves = _leaves(x, params, extra)
    out = rollout(x, case.rule, params, case.steps, extra=extra, **case.options)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), leaves, materialize_grads=True)]


def slab_results(case, rank, group, *, change=None, **changes):
    """The same of one rank: for its slab where the whole is cut, for the grid where the ranks share it."""
    x, params, extra, weight = inputs(case)
    x, extra, weight = (case.slab(value, rank) for value in (x, extra, weight))
    if change is not None:
        x, params = change(x, params)
    leaves = _leaves(x, params, extra)
    options = case.options | {"dim": case.dim, "steps_per_exchange": case.per, "extra": extra, "rule": case.rule}
    options = {"steps": case.steps, "group": group} | options | changes
    out = rollout_sharded(x, options.pop("rule"), params, options.pop("steps"), **options)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), leaves, materialize_grads=True)]


def _leaves(x, params, extra):
    learned = (p for name, p in params.items() if "running" not in name)
    return [tensor.requires_grad_() for tensor in (x, *learned, extra) if tensor is not None]


def module():
    """An NCA that collects running statistics."""
    torch.manual_seed(0)
    return NCA(4, 8, filters="learned", norm="running", padding="reflect", zero_init=False)


def module_inputs():
    """A batch of four states, and the weights of the loss."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, 4, 9, 6, generator=generator)


def cascade():
    """Two levels on volumes."""
    torch.manual_seed(0)
    model = M3DNCA(6, steps=(3, 4), hidden_size=8, scale_factor=2, kernel_size=3)
    for level in model.model:
        torch.nn.init.normal_(level.fc1.weight, std=0.3)
    return model


def cascade_inputs():
    """A volume, and the weights of the loss."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 9, 7, 6, 1, generator=generator), torch.randn(1, 9, 7, 6, 1, generator=generator)


float32 = torch.float32
WRAP = Rule(channels=3, padding="circular", hidden=(8,))
ALIVE = Rule(channels=5, alive=Alive(threshold=0.3), hidden=(8,), fire_rate=0.7)
EXTRA = Rule(channels=3, padding="replicate", extra=2, hidden=(6, 5))
BATCH = Rule(channels=4, norm="batch", padding="reflect", hidden=(8,))
POOL = Rule(channels=4, pooled="max", pooled_channels=(1, 3), norm="batch", hidden=(8,))
DEEP = Rule(channels=3, ndim=3, kernel_size=(3, 1, 5), hidden=(8,))
CASES = {
    "zeros": Case(Rule(channels=4, hidden=(8,)), (11, 9), (4, 5, 2), per=3),
    "zeros, many steps per exchange": Case(Rule(channels=4, hidden=(8,)), (40, 4), (17, 23), steps=5),
    "one rank": Case(Rule(channels=4, norm="batch", hidden=(8, 6)), (11, 9), (11,)),
    "halo over a slab": Case(Rule(channels=3, kernel_size=(5,), hidden=(8,)), (11, 9), (8, 1, 2), per=3),
    "reflect": Case(Rule(channels=3, kernel_size=(5,), padding="reflect"), (9, 12), (1, 11), dim=3, steps=3),
    "circular": Case(WRAP, (9, 7), (3, 3, 1), dim=3, per=4),
    "circular more than once": Case(WRAP.replace(kernel_size=(5,)), (3, 7), (2, 1), steps=5, per=5),
    "extra": Case(EXTRA, (9, 6), (2, 4, 3), per=2),
    "extra equal along the axis": Case(EXTRA, (9, 6), (5, 4), extra=(1, 2, 1, 6), per=2),
    "extra per step": Case(EXTRA.replace(padding="circular"), (9, 6), (1, 3, 5), extra=(5, 1, 2, 9, 6), steps=5, per=2),
    "extra per step, batch": Case(POOL.replace(extra=1), (9, 6), (1, 3, 5), extra=(4, 2, 1, 9, 1)),
    "alive": Case(ALIVE, (12, 8), (5, 3, 4), per=2),
    "alive wrap": Case(ALIVE.replace(padding="circular", alive=Alive(threshold=1.2, wrap=True)), (12, 8), (7, 5)),
    "3-D": Case(DEEP, (4, 5, 12), (5, 3, 4), dim=4),
    "1-D": Case(Rule(channels=2, ndim=1, kernel_size=(7,), padding="reflect", hidden=(8,)), (40,), (12, 28)),
    "no filters": Case(Rule(channels=3, num_filters=0, hidden=(8,)), (6, 5), (2, 4)),
    "batch": Case(BATCH, (11, 6), (5, 2, 4)),
    "batch 3-D": Case(BATCH.replace(channels=3, ndim=3, kernel_size=(3, 3, 3)), (6, 5, 4), (2, 4)),
    "group": Case(BATCH.replace(norm="group", norm_groups=2), (11, 6), (1, 6, 4)),
    "instance": Case(WRAP.replace(norm="instance"), (11, 6), (5, 6)),
    "layer": Case(WRAP.replace(norm="layer"), (11, 6), (5, 6)),
    "running": Case(WRAP.replace(norm="running"), (11, 6), (5, 6), options={"memory": "sqrt"}),
    "pooled mean": Case(Rule(channels=4, pooled="mean", hidden=(8,)), (11, 6), (5, 2, 4)),
    "pooled max, batch": Case(POOL, (11, 6), (5, 2, 4)),
    "pooled max of many": Case(Rule(channels=4, pooled="max", clamp=(-0.3, 0.3), hidden=(8,)), (11, 6), (5, 2, 4)),
    "no steps": Case(WRAP, (9, 7), (3, 6), steps=0),
    "count": Case(Rule(channels=2, hidden=(4,), fire_rate=0.3, update_bias=True), (9, 7), (2, 4, 3), per=2, steps=5),
    "float32": Case(ALIVE, (12, 8), (5, 3, 4), per=2, dtype=float32),
    "float32, batch": Case(BATCH, (12, 8), (5, 7), dtype=float32),
    "float32, 3-D": Case(DEEP, (4, 5, 12), (5, 3, 4), dim=4, per=2, dtype=float32),
}
CASES |= {
    f"random {number}": random_case(number) for number in range(int(os.environ.get("NCAFAST_RANDOM_SLABS", "30")))
}


# run as for one device, inside sharding()
SHARED = [
    "extra per step",
    "extra equal along the axis",
    "alive",
    "batch",
    "pooled max, batch",
    "instance",
    *(name for name in CASES if name.startswith("random") and int(name.split()[1]) < 10),
]


def on_rank(which, **changes):
    """Arguments that are changed on one rank."""
    return lambda rank: changes if rank == which else {}


def _other(x, params):
    return x, params | {"update.weight": params["update.weight"] * 2}


# what a rank does wrong, and what all ranks say then
WRONG = {
    "steps": (on_rank(1, steps=5), "steps differs between the ranks: 4 on rank 0, 5 on rank 1"),
    "rule": (on_rank(2, rule=CASES["zeros"].rule.replace(fire_rate=0.4)), "rule differs between the ranks"),
    "parameters": (on_rank(1, change=_other), "params differs between the ranks"),
    "width": (on_rank(0, change=lambda x, p: (x[..., 1:], p)), "the size of the other axes differs between the ranks"),
    "batch": (on_rank(0, change=lambda x, p: (x[1:], p)), "batch differs between the ranks: 1 on rank 0, 2 on rank 1"),
    "no cells": (on_rank(1, change=lambda x, p: (x[:, :, :0], p)), "rank 1 has a slab without cells"),
    "seed": (on_rank(1, seed=3), "seed differs between the ranks"),
    "dim": (on_rank(2, dim=7), "dim=7 is no spatial axis"),
    "noise": (lambda rank: {"rule": Rule(channels=4, hidden=(8,), noise="state", noise_std=1.0)}, "noise"),
}
