"""ncafast over tiles: from a memory map into another, in eighths along the first axis."""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from torch import Tensor, nn

from ncafast.bench.modes import INFERENCE
from ncafast.bench.problem import Check, Problem, params_of
from ncafast.bench.providers import Fused, Runner, TorchRunner
from ncafast.rule import Rule
from ncafast.volume import rollout_tiled
from ncafast.volume.mapped import temporary

_PIECES = 8


class Tiled(Fused):
    """`ncafast.volume.rollout_tiled` on one of ncafast's backends."""

    every_cell = True
    patience = 1200.0  # of states that only fit on disk

    def __init__(self, backend: str) -> None:
        super().__init__(backend)
        self.name, self.modes = f"ncafast:{backend}:tiled", (INFERENCE,)

    def open(self, problem: Problem) -> Runner:
        """See `Provider`."""
        return _Runner(problem, problem.fused(), self.backend)


class _Runner(TorchRunner):
    """Keeps its states in files that are gone with it."""

    def __init__(self, problem: Problem, module: nn.Module, backend: str) -> None:
        super().__init__(problem, module, self._tiled, gradients=False)
        self._backend = backend
        self._sources = [self._file(x) for x in problem.inputs]
        self._out = self._file(problem.inputs[0])

    def _file(self, x: Tensor) -> np.ndarray:
        values = self._first(x).cpu().numpy()
        file = temporary(tempfile.gettempdir(), values.shape, values.dtype, values.nbytes)
        file[...] = values
        return file

    def _first(self, x: Tensor) -> Tensor:
        return x.movedim(-1, 1) if self.problem.channels_last else x

    @property
    def _rule(self) -> Rule:
        return self.module.rule  # type: ignore[return-value]

    def _infer(self, x: Tensor) -> None:
        number = next(number for number, own in enumerate(self.problem.inputs) if own is x)
        self._run(self._sources[number], self._out, self._rule, self.problem.size.steps)

    def _tiled(self, x: Tensor, steps: int, masks: Tensor | None) -> Tensor:
        rule = self._rule if masks is None else self._rule.replace(fire_rate=1.0)
        source = self._first(x).contiguous()
        found = torch.empty_like(source)
        self._run(source, found, rule, steps)
        return found.movedim(1, -1) if self.problem.channels_last else found

    def _run(self, source: np.ndarray | Tensor, out: np.ndarray | Tensor, rule: Rule, steps: int) -> None:
        tile = (-(-source.shape[2] // _PIECES), *source.shape[3:])
        params = params_of(self.module)
        rollout_tiled(source, rule, params, steps, out=out, tile=tile, backend=self._backend, progress=False)

    def check(self, check: Check, training: bool) -> dict[str, Tensor]:
        """See `Runner`; it takes no masks, so every cell fires."""
        return self.problem.traced(self.module, self.rollout, check, training, every_cell=True, gradients=False)
