"""Who is measured: plain PyTorch, torch.compile, ncafast's backends. Each says why where it cannot be.

A provider opens a `Runner` for a problem; a runner gives calls to time and the tensors that parity is judged by.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ncafast import backends
from ncafast.backends.precision import use_precision
from ncafast.bench import machine, work
from ncafast.bench.modes import FORWARD, INFERENCE, MEMORY, TRAIN
from ncafast.bench.problem import Check, Problem, Rollout, plain
from ncafast.bench.results import ROUNDED
from ncafast.measuring.memory import kept_bytes
from ncafast.measuring.timing import Call, synchronize
from ncafast.nca import NCA

LEARNING_RATE = 1e-12  # the optimiser does its work and the weights stay where they are


class Runner:
    """One provider at one problem."""

    unchecked: str | None = None  # why parity cannot be checked
    note: str = ""  # what else has to be known of its figures
    problem: Problem

    def call(self, mode: str) -> Call:
        """The work of a mode as one call; it returns when the device is done."""
        raise NotImplementedError

    def steps(self, mode: str) -> int:
        """NCA steps that a call of this mode takes."""
        return self.problem.size.steps

    def check(self, check: Check, training: bool) -> dict[str, Tensor]:
        """State and gradients, by the counterpart's names; gradients may be left out."""
        raise NotImplementedError

    def kept(self) -> int | None:
        """Bytes kept for backward by one training call; None where that is not visible."""
        return None

    def busiest(self) -> float | None:
        """Seconds of a core that the busiest of several processes takes for a call; None where this one does the work.

        Unlike a time, they do not grow with the load of the machine.
        """
        return None

    def close(self) -> None:
        """Let go of what the interpreter does not."""


class Provider:
    """What can be measured, or why not.

    Attributes:
        name: as given to --provider and written to the results.
        modes: what it has.
        compiles: whether its first call compiles, which is reported apart.
        every_cell: whether its parity is checked with every cell firing, since it takes no masks.
        state_only: whether the gradients of weights are left out of that check.
        by_name_only: whether it takes part only where --provider names it.
        rounding: what its own precision adds to the errors that are allowed, of state and of gradients, relative.
        patience: seconds; where a call takes longer it is not measured.
    """

    name: str
    modes: tuple[str, ...] = (TRAIN, FORWARD, INFERENCE)
    compiles = False
    every_cell = False
    state_only = False
    by_name_only = False
    rounding = 0.0, 0.0
    patience = 60.0

    def why_not(self, problem: Problem, mode: str) -> str | None:
        """Why it cannot be measured here, or None."""
        raise NotImplementedError

    def open(self, problem: Problem) -> Runner:
        """Ready to run."""
        raise NotImplementedError


class TorchRunner(Runner):
    """Any nn.Module together with a way to run its rollout."""

    def __init__(self, problem: Problem, module: nn.Module, rollout: Rollout, *, gradients: bool = True) -> None:
        self.problem, self.module, self.rollout = problem, module, rollout
        self.gradients = gradients
        self.optimiser = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE)

    def call(self, mode: str) -> Call:
        """See `Runner`. The module is in training mode except for inference."""
        queued = self.queued(mode)

        def once(number: int) -> None:
            queued(number)
            synchronize(self.problem.device)

        return once

    def queued(self, mode: str) -> Call:
        """The same without waiting for the device."""
        self.module.train(mode != INFERENCE)
        run = {TRAIN: self._train, FORWARD: self._forward, INFERENCE: self._infer, MEMORY: self._train}[mode]
        return lambda number: run(self.problem.inputs[number % len(self.problem.inputs)])

    def check(self, check: Check, training: bool) -> dict[str, Tensor]:
        """See `Runner`."""
        return self.problem.traced(self.module, self.rollout, check, training, gradients=self.gradients)

    def kept(self) -> int | None:
        """See `Runner`."""
        self.module.train()
        x = self.problem.inputs[0]
        return kept_bytes(lambda: self._steps(x), (x, *self.module.parameters()))

    def _steps(self, x: Tensor) -> Tensor:
        return self.rollout(x, self.problem.size.steps, None)

    def _train(self, x: Tensor) -> None:
        self._steps(x).square().mean().backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _forward(self, x: Tensor) -> None:
        self._steps(x)

    @torch.inference_mode()
    def _infer(self, x: Tensor) -> None:
        self._steps(x)


class _Renamed(TorchRunner):
    """A runner of the original, whose gradients are renamed."""

    def check(self, check: Check, training: bool) -> dict[str, Tensor]:
        found = super().check(check, training)
        return self.problem.renamed(found) if self.gradients else found


class Eager(Provider):
    """The published model as it is."""

    name = "eager"
    modes: tuple[str, ...] = (TRAIN, FORWARD, INFERENCE, MEMORY)

    def why_not(self, problem: Problem, mode: str) -> str | None:
        """Memory that will not do."""
        steps = problem.size.steps if mode in (TRAIN, MEMORY) else 1
        need = work.eager_bytes(problem.rule, steps > 1) * problem.size.cells * steps
        have = machine.available_bytes(problem.device)
        if need > 0.5 * have:
            return f"needs about {need / 2**30:.0f} GiB, of {have / 2**30:.0f} GiB free at most half are taken"
        return None

    def open(self, problem: Problem) -> Runner:
        """See `Provider`."""
        module = problem.original()
        return _Renamed(problem, module, plain(module))


class Compiled(Eager):
    """torch.compile of the published step, inside the published loop.

    Compiling the loop as a whole gives the same speed on a CPU and takes minutes.
    """

    name = "compile"
    modes = (TRAIN, FORWARD, INFERENCE)
    compiles = True
    state_only = True  # its backward would have to be compiled once more

    def open(self, problem: Problem) -> Runner:
        """See `Provider`."""
        torch.compiler.reset()
        # Each mode is a compilation of its own, and past the limit (8) torch silently runs the step uncompiled.
        torch._dynamo.config.recompile_limit = 64
        module = problem.original()
        module.compile_step()
        return _Renamed(problem, module, plain(module), gradients=False)


class CompiledMax(Eager):
    """torch.compile of the whole loop with max-autotune and CUDA graphs."""

    name = "compile-max"
    modes = (TRAIN, FORWARD, INFERENCE)
    compiles = True
    state_only = True  # its backward would have to be compiled once more

    def why_not(self, problem: Problem, mode: str) -> str | None:
        """See `Provider`."""
        if problem.device.type != "cuda":
            return "max-autotune with CUDA graphs needs a GPU"
        return super().why_not(problem, mode)

    def open(self, problem: Problem) -> Runner:
        """See `Provider`."""
        torch.compiler.reset()
        module = problem.original()
        whole = torch.compile(plain(module), mode="max-autotune", dynamic=False)

        def rollout(x: Tensor, steps: int, masks: Tensor | None) -> Tensor:
            torch.compiler.cudagraph_mark_step_begin()
            return whole(x, steps, masks).clone()  # its own output is overwritten by the next replay

        return _Renamed(problem, module, rollout, gradients=False)


class Fused(Provider):
    """ncafast on one of its backends."""

    def __init__(self, backend: str, memory: str = "states") -> None:
        self.backend, self.memory = backend, memory
        self.name = f"ncafast:{backend}" + ("" if memory == "states" else f":{memory}")
        self.modes = (TRAIN, FORWARD, INFERENCE, MEMORY) if memory == "states" else (MEMORY,)
        self.precision = "ieee" if backend == "cpu" else None  # there nothing else is done unless it is chosen

    def why_not(self, problem: Problem, mode: str) -> str | None:
        """What the backend says."""
        backend = backends.get(self.backend)
        return backend.unavailable() or backend.can_run(problem.rule, problem.inputs[0].movedim(-1, 1), self.precision)

    def open(self, problem: Problem) -> Runner:
        """See `Provider`."""
        module = problem.fused()
        turned = problem.channels_last and isinstance(module, NCA)

        def rollout(x: Tensor, steps: int, masks: Tensor | None) -> Tensor:
            options: dict[str, Any] = {"backend": self.backend, "memory": self.memory}
            if masks is not None and _draws(module):
                options["fire_mask"] = masks
            with use_precision(self.precision) if self.precision else nullcontext():
                result = module(x.movedim(-1, 1) if turned else x, steps, **options)
            state = result if isinstance(result, Tensor) else result[1]  # MaxNCA: (logits, state)
            return state.movedim(1, -1) if turned else state

        return TorchRunner(problem, module, rollout)


class Rounded(Fused):
    """ncafast on the CPU with the MLP's products in bfloat16."""

    by_name_only = True
    rounding = 0.02, 0.1  # gradients: a hidden value may round to the other side of ReLU's kink

    def __init__(self) -> None:
        super().__init__("cpu")
        self.name, self.precision = ROUNDED, "bf16"


def _draws(module: nn.Module) -> bool:
    """Whether the module masks cells in its present mode; one with `fire_in_eval` off does not in evaluation."""
    rule: Any = module.rule
    return module.training or rule.fire_in_eval
