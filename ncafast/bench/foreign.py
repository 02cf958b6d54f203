"""Other people's code, measured from a checkout that the user names: NCALab, and OctreeNCA's CUDA kernel."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncafast.bench.modes import FORWARD, INFERENCE, TRAIN
from ncafast.bench.problem import Check, Problem
from ncafast.bench.providers import Provider, Runner, TorchRunner
from ncafast.measuring.timing import Call, synchronize


class NcaLab(Provider):
    """MECLabTUDA/NCALab: its segmentation model of the case's sizes, with weights of its own."""

    name = "ncalab"
    modes = (TRAIN, FORWARD, INFERENCE)

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def why_not(self, problem: Problem, mode: str) -> str | None:
        """No checkout, or a rule that it has no options for."""
        rule = problem.rule
        if self.path is None:
            return "no checkout given (--ncalab PATH)"
        if rule.ndim != 2 or rule.perception != "depthwise" or not rule.identity or len(rule.hidden) != 1:
            return "NCALab has two axes, depthwise filters beside the state and one hidden layer"
        if rule.norm != "none":
            return f"NCALab has no {rule.norm} norm"
        if not problem.learned_filters or rule.alive is not None or rule.padding == "zeros":
            return "NCALab's fixed filters, zero padding and alive mask differ from this case's"
        return None

    def open(self, problem: Problem) -> Runner:
        """See `Provider`.

        Raises:
            ImportError: the checkout, or a package that it needs, is missing.
        """
        rule = problem.rule
        model = _from_checkout(self.path, "ncalab").BinarySegmentationNCAModel  # one output channel beside the image
        module = model(
            problem.device,
            rule.lo,
            rule.channels - rule.lo - 1,
            fire_rate=rule.fire_rate,
            hidden_size=rule.hidden[0],
            num_learned_filters=rule.num_filters,
            filter_padding=rule.padding,
            kernel_size=rule.kernel_size[0],
        )
        turned = problem.channels_last

        def rollout(x: Tensor, steps: int, masks: Tensor | None) -> Tensor:
            state: Tensor = module(x.movedim(-1, 1) if turned else x, steps=steps).output_image
            return state.movedim(1, -1) if turned else state

        runner = TorchRunner(problem, module, rollout)
        runner.unchecked = "its filters have no bias and it takes no masks, so the weights are its own"
        return runner


class OctreeKernel(Provider):
    """MECLabTUDA/OctreeNCA's nca_cuda.cu, compiled from the checkout. Inference only, one rule only."""

    name = "octreenca"
    modes = (INFERENCE,)
    compiles = True
    state_only = True

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def why_not(self, problem: Problem, mode: str) -> str | None:
        """No checkout, no GPU, or another rule than the one that is compiled in."""
        rule = problem.rule
        if self.path is None:
            return "no checkout given (--octreenca PATH)"
        if problem.device.type != "cuda":
            return "its kernel needs a GPU"
        fits = (rule.ndim, rule.channels, rule.hidden, rule.kernel_size, rule.num_filters) == (2, 16, (64,), (3, 3), 1)
        if not fits or rule.norm != "none" or rule.padding != "reflect" or problem.size.batch != 1:
            return "its kernel has C16 H64, one 3x3 filter, reflect padding, no norm and one sample compiled in"
        return None

    def open(self, problem: Problem) -> Runner:
        """See `Provider`."""
        from torch.utils import cpp_extension

        assert self.path is not None
        built: Any = cpp_extension.load(name="nca_cuda", sources=[str(self.path / "nca_cuda.cu")])
        return _OctreeRunner(problem, built.nca2d_cuda)


class _OctreeRunner(Runner):
    def __init__(self, problem: Problem, step: Any) -> None:
        self.problem, self.one_step, self.module = problem, step, problem.original()

    def call(self, mode: str) -> Call:
        def once(number: int) -> None:
            self._rollout(self.problem.inputs[number % len(self.problem.inputs)], self.problem.size.steps, None)
            synchronize(self.problem.device)

        return once

    def check(self, check: Check, training: bool) -> dict[str, Tensor]:
        return self.problem.traced(self.module, self._rollout, check, False)

    @torch.no_grad()
    def _rollout(self, x: Tensor, steps: int, masks: Tensor | None) -> Tensor:
        """Channel 0 of the new state carries the mask into the kernel."""
        layers: Any = self.module
        weights = [layers.conv.weight, layers.conv.bias, layers.fc0.weight, layers.fc0.bias, layers.fc1.weight]
        for number in range(steps):
            new = torch.zeros_like(x)
            if masks is None:
                new[:, 0].bernoulli_(self.problem.rule.fire_rate)
            else:
                new[:, 0] = masks[number, :, 0]
            self.one_step(new, x, *weights)
            x = new
        return x


def _from_checkout(path: Path | None, name: str) -> Any:
    """Import a package from a checkout.

    Raises:
        ImportError: it is not there, or something that it imports is missing.
    """
    if path is None or not (path / name).is_dir():
        raise ImportError(f"{path} holds no package {name}")
    sys.path.insert(0, str(path))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(path))
