"""`--mine module:Class`: a user's own automaton, accelerated or beside the drop-in with its constructor and weights."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ncafast import models
from ncafast.acceleration import accelerate
from ncafast.acceleration.benchmark import compare
from ncafast.acceleration.entry import STEPS
from ncafast.bench.case import Case, Size
from ncafast.bench.modes import FORWARD, SIZES, TRAIN
from ncafast.bench.originals import Masks, Original
from ncafast.measuring.progress import Progress
from ncafast.user_class import build, json_object, lengths, load_class

_LARGE = 0.9999
_CHANNELS_LAST = (models.MaxNCA, models.GrowingNCA, models.SelfClassifyingNCA)
_DROP_INS = {
    cls.__name__: cls
    for cls in (models.MaxNCA, models.NCA2D, models.TextureNCA, models.GrowingNCA, models.SelfClassifyingNCA)
}


def drop_in_of(where: str, drop_in: str | None) -> str | None:
    """The drop-in that was named, or the one of the user's class's own name; None: the class is accelerated."""
    own = where.rpartition(":")[2]
    return drop_in or (own if own in _DROP_INS else None)


def accelerated(where: str, shape: str, steps: int, arguments: str, device: torch.device) -> None:
    """Accelerate the user's module, and print what was found and what a call takes before and after.

    Args:
        where: "module:Class", importable from the present folder.
        shape: of the input that the module takes.
        steps: steps per call.
        arguments: JSON object of the constructor's arguments.
        device: where to measure.

    Raises:
        ValueError: a part that cannot be understood or found, or nothing can be accelerated.
    """
    module = build(f"--mine {where}", load_class("--mine", where), "--mine-args", arguments).to(device)
    x = torch.randn(lengths("--mine-shape", shape), device=device)
    run = Mine(module, channels_last=False).rollout
    accelerate(module)
    with Progress() as say:
        found = compare(module, lambda: run(x, steps), say)
    print(found)


def case(where: str, drop_in: str, shape: str, steps: int, arguments: str = "{}") -> Case:
    """The case that compares the user's module with a drop-in.

    Args:
        where: "module:Class", importable from the present folder.
        drop_in: name of the class in ncafast.models.
        shape: of the input that the user's module takes, such as "8,64,64,16".
        steps: steps per call.
        arguments: JSON object of the constructor's arguments, for both.

    Raises:
        ValueError: a part that cannot be understood or found.
    """
    own, options = load_class("--mine", where), json_object("--mine-args", arguments)
    fused = _DROP_INS.get(drop_in)
    if fused is None:
        known = ", ".join(_DROP_INS)
        raise ValueError(f"there is no drop-in called {drop_in!r}: name one of {known} with --drop-in")
    sizes = lengths("--mine-shape", shape)
    build(f"--mine {where}", own, "--mine-args", arguments)
    build(f"--drop-in {fused.__name__}", fused, "--mine-args", arguments)
    last = fused in _CHANNELS_LAST
    grid = tuple(sizes[1:-1] if last else sizes[2:])
    size = Size(sizes[0], grid, steps)
    return Case(
        "mine",
        f"{where} beside ncafast.models.{fused.__name__}",
        lambda: Mine(own(**options), last),
        lambda: fused(**options),
        None,
        dict.fromkeys(SIZES, size),
        (TRAIN, FORWARD),
        convert=lambda tensors: {name.removeprefix("module."): tensor for name, tensor in tensors.items()},
        start="alive" if fused is models.GrowingNCA else "noise",
        every_cell=True,
    )


class Mine(Original):
    """A user's module as an `Original`: called once with the number of steps if it takes one, else step by step.

    It takes no masks. Where some are asked for, its own random numbers are answered so that every cell fires, and the
    case says so (`every_cell`).
    """

    def __init__(self, module: nn.Module, channels_last: bool) -> None:
        super().__init__()
        self.module, self.channels_last = module, channels_last
        names = inspect.signature(module.forward).parameters
        self.counts = next((name for name in STEPS if name in names), None)

    def compile_step(self) -> None:
        """Compile the user's forward."""
        self.module.forward = torch.compile(self.module.forward, dynamic=False)  # type: ignore[method-assign]

    def rollout(self, x: Tensor, steps: int, masks: Masks = None) -> Tensor:
        """The user's forward; of several results the one shaped like x is the state."""
        if masks is None:
            return self._run(x, steps)
        with _Answers(_LARGE if self._fires_above(x) else 0.0):
            return self._run(x, steps)

    def _run(self, x: Tensor, steps: int) -> Tensor:
        if self.counts is not None:
            return _state(self.module(x, **{self.counts: steps}), x)
        for _ in range(steps):
            x = _state(self.module(x), x)
        return x

    @torch.no_grad()
    def _fires_above(self, x: Tensor) -> bool:
        """Whether cells fire when their random numbers are large: then the state moves further than with small ones."""
        moved = []
        for value in (0.0, _LARGE):
            with _Answers(value):
                moved.append(float((self._run(x, 1) - x).abs().sum()))
        return moved[1] > moved[0]


class _Answers(TorchDispatchMode):
    """While on, every uniform random number has this value, and bernoulli gives 1."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer torch.rand, torch.rand_like, uniform_ and bernoulli; do everything else."""
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("rand", "rand_like", "uniform_"):
            result.fill_(self.value)
        elif name in ("bernoulli", "bernoulli_"):
            result.fill_(1.0)
        return result


def _state(result: Any, x: Tensor) -> Tensor:
    if isinstance(result, Tensor):
        return result
    return next(part for part in result if isinstance(part, Tensor) and part.shape == x.shape)
