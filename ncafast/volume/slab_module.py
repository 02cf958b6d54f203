"""Modules that run on slabs."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from ncafast.backends.precision import precision
from ncafast.keywords import options_of, refuse_unknown
from ncafast.layers import follow
from ncafast.models import M3DNCA, BasicNCA3D
from ncafast.nca import NCA
from ncafast.rule import Rule
from ncafast.step_range import Steps, draw_steps
from ncafast.trace import Memory
from ncafast.volume.agreement import agree
from ncafast.volume.domain import Domain, domain_of
from ncafast.volume.slab_call import Wanted
from ncafast.volume.slabs import run

Module = TypeVar("Module", NCA, BasicNCA3D, M3DNCA)


def shard(
    model: Module, mesh: DeviceMesh, axis: str = "domain", *, dim: int = 2, steps_per_exchange: int | None = None
) -> Module:
    """The same model on a grid of which each rank holds a slab: its forward takes and returns slabs.

    The result shares parameters, buffers, mode and hooks with `model`, and has the same state_dict, so
    `ncafast.checkpoint.save` of either writes the file that one device writes. Its rollouts are those of
    `rollout_sharded`, whose options seed, memory, first_step, first_sample, backend (and of an NCA extra) its forward
    takes. Running statistics follow those of the whole grid. For several grids per step, give the result to DDP or
    FSDP2 on another axis of the mesh; batch statistics are those of one grid's batch.

    Args:
        model: an NCA, BasicNCA3D or M3DNCA on this rank's device, with the same parameters on all ranks of a grid. Of
            an M3DNCA all slabs but the last must be multiples of scale_factor**(levels - 1) cells, so that no coarse
            cell is cut; it runs on whole grids, not on windows.
        mesh: ranks by axis; those along `axis` share the grid.
        axis: the mesh's axis.
        dim: axis of the state [B, C, *S] that the grid is cut along, 2 or more; also for models whose tensors are
            [B, *S, C], where it is one less.
        steps_per_exchange: as in `rollout_sharded`.

    Raises:
        TypeError: another model; call `rollout_sharded` in a forward of your own.
        ValueError: the mesh has no such axis.
    """
    domain = domain_of(mesh, None, axis)
    for known, base in ((NCA, _NCA), (BasicNCA3D, _BasicNCA3D), (M3DNCA, _M3DNCA)):
        if isinstance(model, known):
            return _view(model, base, domain, dim, steps_per_exchange)
    raise TypeError(
        f"shard takes an NCA, BasicNCA3D or M3DNCA, got {type(model).__name__}; call rollout_sharded(x, rule, params, "
        "steps, mesh=...) in a forward of your own"
    )


def _view(model: Any, base: type, domain: Domain, dim: int, every: int | None) -> Any:
    """An object of another class with the model's own attributes."""
    fields = {"_domain": domain, "_dim": dim, "_every": every, "_whole": model}
    view: Any = object.__new__(type(f"Sharded{type(model).__name__}", (base, type(model)), fields))
    view.__dict__ = model.__dict__
    return view


class _Slabs(nn.Module):
    """What `_view` gives a class: the ranks, the cut axis, steps per exchange, and the module itself."""

    _domain: Domain
    _dim: int
    _every: int | None
    _whole: nn.Module


class _NCA(_Slabs, NCA):
    def forward(  # type: ignore[override]
        self,
        x: Tensor,  # [B, C, *S], but along the cut axis this rank's slab
        steps: Steps | None = None,
        *,
        seed: int | Tensor | None = None,
        extra: Tensor | None = None,
        memory: Memory = "states",
        first_step: int = 0,
        first_sample: int | None = None,
        backend: str | None = None,
        **unknown: NoReturn,
    ) -> Tensor:
        refuse_unknown("the forward of a sharded NCA", unknown, _OPTIONS)
        count = draw_steps(self._defaults.asked(steps, self.training), seed)
        rule = self._present_rule()
        extra = self._defaults.extra(extra, x, first_step, count)
        wanted = Wanted(count, self._dim, seed, first_step, first_sample, extra, self._every, memory, backend)
        done = run(x, rule, self._tensors(rule), wanted, self._domain)
        if rule.norm == "batch" and x.shape[0]:
            follow(self._norms(), done.stats, done.cells)
        return done.out


_OPTIONS = options_of(_NCA.forward, 2)


_PASSED = ("seed", "memory", "first_step", "first_sample", "backend")


class _BasicNCA3D(_Slabs, BasicNCA3D):
    def _run(
        self, x: Tensor, rule: Rule, params: dict[str, Tensor], steps: int, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        given = {name: value for name, value in options.items() if value is not None}
        refuse_unknown(f"a sharded {type(self._whole).__name__}", given, _PASSED)
        rounding = precision(x, linear=self._linear_layers)
        wanted = Wanted(steps, self._dim, steps_per_exchange=self._every, precision=rounding, **given)
        done = run(x, rule, params, wanted, self._domain)
        if rule.norm == "batch" and x.shape[0]:
            follow(self._norms(), done.stats, done.cells)
        return done.out, None


class _M3DNCA(_Slabs, M3DNCA):
    @property
    def _levels(self) -> list[BasicNCA3D]:
        return [_view(level, _BasicNCA3D, self._domain, self._dim, self._every) for level in super()._levels]

    def forward(self, x: Tensor, **options: Any) -> Any:  # type: ignore[override]
        """Logits [B, X, Y, Z, output_channels] of this rank's slab x [B, X, Y, Z, input_channels]."""
        mistake: Exception | None = None
        try:
            refuse_unknown("a sharded M3DNCA", options, _PASSED)
            self._check(x, None)
            self._check_slab(x.shape[self._dim - 1])
        except (TypeError, ValueError) as error:
            mistake = error
        agree(self._domain, {}, {}, mistake, x.device if isinstance(x, Tensor) else torch.device("cpu"))
        return super().forward(x, **options)

    def _check_slab(self, cells: int) -> None:
        coarse, rank = self.scale_factor ** (self.levels - 1), self._domain.rank
        if cells % coarse and rank < self._domain.count - 1:
            raise ValueError(
                f"the slab of rank {rank} has {cells} cells; for {self.levels} levels all but the last must be "
                f"multiples of {coarse}"
            )
