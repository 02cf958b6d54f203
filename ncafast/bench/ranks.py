"""ncafast over several processes of one machine: each has one thread and a slab of the grid, and they talk by gloo."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ncafast.bench import machine
from ncafast.bench.modes import INFERENCE
from ncafast.bench.problem import Check, Problem, params_of
from ncafast.bench.providers import Fused, Runner
from ncafast.measuring.timing import Call
from ncafast.rule import Rule
from ncafast.volume import rollout_sharded


class Ranks(Fused):
    """`ncafast.volume.rollout_sharded` on one of ncafast's backends, by so many processes."""

    every_cell = True

    def __init__(self, backend: str, count: int) -> None:
        super().__init__(backend)
        self.count = count
        self.name, self.modes = f"ncafast:{backend}:ranks{count}", (INFERENCE,)

    def why_not(self, problem: Problem, mode: str) -> str | None:
        """See `Provider`."""
        if problem.device.type != "cpu":
            return "the processes of this benchmark compute on the CPU"
        return super().why_not(problem, mode)

    def open(self, problem: Problem) -> Runner:
        """See `Provider`."""
        return _Runner(problem, self.backend, self.count)


class _Runner(Runner):
    """Starts the processes; each keeps its slabs of the inputs."""

    def __init__(self, problem: Problem, backend: str, count: int) -> None:
        self.problem, self.count = problem, count
        module = problem.fused().eval()
        self._rule: Rule = module.rule  # type: ignore[assignment]
        self._params = {name: tensor.detach().numpy() for name, tensor in params_of(module).items()}
        self.note = f"{count} processes of 1 thread on {machine.usable_cores()} cores"
        self._folder = tempfile.TemporaryDirectory()
        context = multiprocessing.get_context("spawn")
        self._lines: list[Connection] = []
        self._processes = []
        for rank in range(count):
            line, other = context.Pipe()
            arguments = other, rank, count, backend, str(Path(self._folder.name, "store"))
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            other.close()
            self._lines.append(line)
            self._processes.append(process)
        kept = [self._slabs(x.movedim(-1, 1) if problem.channels_last else x) for x in problem.inputs]
        self._ask("keep", list(zip(*kept, strict=True)))

    def call(self, mode: str) -> Call:
        """See `Runner`."""
        steps, inputs = self.problem.size.steps, len(self.problem.inputs)
        return lambda number: self._ask("run", [number % inputs] * self.count, self._rule, self._params, steps)

    def busiest(self) -> float | None:
        """See `Runner`."""
        return max(self.call(INFERENCE)(0))  # type: ignore[call-overload,no-any-return]

    def check(self, check: Check, training: bool) -> dict[str, Tensor]:
        """See `Runner`; it takes no masks, so every cell fires."""
        return self.problem.traced(torch.nn.Identity(), self._rollout, check, training, True, gradients=False)

    def _rollout(self, x: Tensor, steps: int, masks: Tensor | None) -> Tensor:
        last = self.problem.channels_last
        slabs = self._slabs(x.movedim(-1, 1) if last else x)
        found = self._ask("result", slabs, self._rule.replace(fire_rate=1.0), self._params, steps)
        out = torch.from_numpy(np.concatenate(found, 2))
        return out.movedim(1, -1) if last else out

    def _slabs(self, x: Tensor) -> list[np.ndarray]:
        return [slab.contiguous().numpy() for slab in x.tensor_split(self.count, 2)]

    def _ask(self, what: str, per_rank: list[Any], *arguments: Any) -> list[Any]:
        """What each process answers to a method of `_Rank`."""
        for line, own in zip(self._lines, per_rank, strict=True):
            line.send((what, (own, *arguments)))
        answers = [line.recv() for line in self._lines]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def close(self) -> None:
        """See `Runner`."""
        for line, process in zip(self._lines, self._processes, strict=True):
            line.close()
            process.join()
        self._folder.cleanup()


class _Rank:
    """One of the processes."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.slabs: list[Tensor] = []

    def keep(self, slabs: tuple[np.ndarray, ...]) -> None:
        """The slabs of all inputs."""
        self.slabs = [torch.from_numpy(slab) for slab in slabs]

    def run(self, number: int, rule: Rule, params: Mapping[str, np.ndarray], steps: int) -> float:
        """A rollout of one of them; the seconds of a core that it took."""
        start = time.process_time()
        self._rollout(self.slabs[number], rule, params, steps)
        return time.process_time() - start

    def result(self, slab: np.ndarray, rule: Rule, params: Mapping[str, np.ndarray], steps: int) -> np.ndarray:
        """The last state of a rollout of another slab."""
        return self._rollout(torch.from_numpy(slab), rule, params, steps).numpy()

    @torch.inference_mode()
    def _rollout(self, x: Tensor, rule: Rule, params: Mapping[str, np.ndarray], steps: int) -> Tensor:
        tensors = {name: torch.from_numpy(values) for name, values in params.items()}
        group = dist.group.WORLD
        return rollout_sharded(x, rule, tensors, steps, group=group, backend=self.backend)


def _serve(line: Connection, rank: int, count: int, backend: str, store: str) -> None:
    """Answer until the other end is closed."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    own = _Rank(backend)
    try:
        while True:
            what, arguments = line.recv()
            try:
                line.send(getattr(own, what)(*arguments))
            except Exception as error:  # said by the process that measures
                line.send(error)
    except EOFError:
        dist.destroy_process_group()
