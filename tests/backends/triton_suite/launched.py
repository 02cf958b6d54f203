"""What a step costs the host: launches counted, and timed up to the driver, whose place a stub takes.

    python tests/backends/triton_suite/launched.py [RULE ...] [--time]

prints a line of JSON per rule: kernels, and torch's operations that launch something, of a step forward and of one
backward. With --time also microseconds of Python per launch: kernels are compiled for sm_90, and nothing is run.
"""

from __future__ import annotations

import json
import sys
import time
import timeit
from collections.abc import Callable
from typing import Any

import torch
import triton
from compiled import RULES
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from ncafast import Rule
from ncafast.backends import triton as backend
from ncafast.backends.plan import Call, Plan
from ncafast.backends.triton_kernels import chosen

_LISTED = 16  # steps whose lists are made at once: a multiple of them is counted


class Counter(TorchDispatchMode):
    """Counts kernels of ours, none of which runs, and operations of torch that would launch some."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view and not func._schema.name.startswith(
            ("aten::empty", "aten::new_empty", "aten::_unsafe_view")
        ):
            self.operations += 1
        return found

    def note(self, *args: Any, **kwargs: Any) -> None:
        self.kernels += 1


def calls(rule: Rule, size: tuple[int, ...], steps: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """A rollout of so many steps that keeps every state, and its backward."""
    x = torch.zeros(1, rule.channels, *size)
    params = [torch.zeros(shape) for shape in rule.param_shapes().values()]
    extra = torch.zeros(1, rule.extra, *size) if rule.extra else None
    seed = torch.zeros(1, dtype=torch.int64)
    plan = Plan(steps, 0, 0, 1, steps, "tf32")
    done = backend.outputs(rule, x, plan)
    needs = [True, False, *("running" not in name for name in rule.param_shapes())]
    call = Call(rule, x, params, extra, None, seed, plan)

    def backward() -> object:
        return backend.backward(call, done.history, done.tape, torch.zeros_like(x), None, needs)

    return lambda: backend.forward(call), backward


def counted(rule: Rule, size: tuple[int, ...]) -> list[list[float]]:
    """[kernels, torch's operations] of a step forward, and of one backward."""
    found = []
    for way in (0, 1):
        totals = []
        for steps in (_LISTED, 2 * _LISTED):
            counter = Counter()
            before = JITFunction.__getitem__
            JITFunction.__getitem__ = lambda kernel, grid, note=counter.note: note
            try:
                with counter:
                    calls(rule, size, steps)[way]()
            finally:
                JITFunction.__getitem__ = before
            totals.append((counter.kernels, counter.operations))
        found.append([(more - less) / _LISTED for less, more in zip(*totals, strict=True)])
    return found


class _Driver:
    """A GPU that does nothing."""

    launched = 0

    class utils:
        get_device_properties = staticmethod(lambda device: {"max_shared_mem": 227 * 1024, "multiprocessor_count": 132})
        load_binary = staticmethod(lambda name, kernel, shared, device: (1, 1, 32, 0, 1024))

    class launcher_cls:
        launch_cooperative_grid = False

        def __init__(self, source: Any, metadata: Any) -> None:
            pass

        def __call__(self, *args: Any) -> None:
            _Driver.launched += 1

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def timed(rule: Rule, size: tuple[int, ...]) -> list[float]:
    """Microseconds of Python per launch of a step more, forward and backward."""
    triton.runtime.driver.set_active(_Driver())
    found = []
    for way in (0, 1):
        times, launches = [], []
        for steps in (_LISTED, 3 * _LISTED):
            call = calls(rule, size, steps)[way]
            call()
            before = _Driver.launched
            call()
            launches.append(_Driver.launched - before)
            times.append(min(timeit.repeat(call, time.process_time, repeat=15, number=1)))
        found.append(round(1e6 * (times[1] - times[0]) / (launches[1] - launches[0]), 1))
    return found


def main() -> None:
    """Prints a line of JSON per rule."""
    names = [word for word in sys.argv[1:] if word in RULES] or list(RULES)
    chosen.capability = lambda device: 9
    for name in names:
        rule, size = RULES[name]
        small = tuple(8 for _ in size)  # the number of launches does not depend on it
        row: dict[str, Any] = {"rule": name} | dict(zip(("forward", "backward"), counted(rule, small), strict=True))
        if "--time" in sys.argv:
            row["us"] = timed(rule, small)
        print(json.dumps(row))


if __name__ == "__main__":
    main()
