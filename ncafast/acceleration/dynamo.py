"""`torch.compile(model, backend="ncafast")`: steps that Dynamo unrolled become a rollout, the rest goes to Inductor."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._dynamo.backends import registry
from torch.fx import GraphModule

from ncafast.acceleration.errors import NotAccelerated, at_exception
from ncafast.acceleration.fuse import Fused, fuse
from ncafast.acceleration.patch import NotAcceleratedWarning
from ncafast.acceleration.report import described
from ncafast.acceleration.structure import Snapshot

_OPTIONS = {"masks": ("ncafast", "torch"), "rest": ("inductor", "eager"), "quiet": (False, True)}
_VARIANTS = 4  # values of constants that a graph is searched for, each a rollout of its own
_said: set[str] = set()  # printed lines: a graph is compiled again for every number of steps

Run = Callable[..., Any]


def compile_graph(
    module: GraphModule, inputs: list[Any], *, options: Mapping[str, Any] | None = None, mode: str | None = None
) -> Run:
    """The backend that `torch.compile` calls with each graph.

    Args:
        module: Dynamo's graph.
        inputs: values of its inputs.
        options: "masks": as for `ncafast.accelerate`; "rest": "inductor" or "eager", who runs what is around the
            steps; "quiet": True prints nothing.
        mode: of `torch.compile`, for Inductor.

    Returns:
        What runs the graph.

    Raises:
        ValueError: an unknown option, or value of one.
    """
    chosen = {name: allowed[0] for name, allowed in _OPTIONS.items()} | dict(options or {})
    for name, value in chosen.items():
        if value not in _OPTIONS.get(name, ()):
            allowed = ", ".join(f"{key}={' or '.join(map(repr, values))}" for key, values in _OPTIONS.items())
            raise ValueError(f"option {name}={value!r} is not allowed: choose from {allowed}")
    return _Compiled(module, chosen, mode).first(inputs)


def register() -> None:
    """Make the name "ncafast" known to torch.compile, also where the package is not installed."""
    if "ncafast" not in registry._BACKENDS:
        registry.register_backend(compile_graph, name="ncafast")


class _Compiled:
    """One graph of Dynamo's: fused for the constants that it was searched with, else as it is."""

    def __init__(self, module: GraphModule, options: Mapping[str, Any], mode: str | None) -> None:
        self.module, self.options, self.mode = module, options, mode
        self.variants: list[tuple[list[tuple[int, Snapshot]], Run]] = []
        self.plain: Run | None = None

    def first(self, inputs: list[Any]) -> Run:
        """Search; what runs the graph."""
        run = self._search(inputs)
        return self if self.variants and self.variants[0][0] else run

    def __call__(self, *inputs: Any) -> Any:
        for constants, run in self.variants:
            if all(Snapshot(inputs[k]) == value for k, value in constants):
                return run(*inputs)
        if self.plain is None and len(self.variants) < _VARIANTS:
            return self._search(inputs)(*inputs)
        if self.plain is None:
            self._warn(f"its constants changed {_VARIANTS} times")
        return self._plain()(*inputs)

    def _search(self, inputs: Any) -> Run:
        try:
            with torch.inference_mode(False):
                fused = fuse(self.module, inputs, self.options["masks"])
        except NotAccelerated as reason:
            self._warn(str(reason))
            return self._plain()
        except Exception as error:  # a graph may hold what nobody thought of; it then runs as it is
            self._warn(f"the search failed: {at_exception(error)}")
            return self._plain()
        self._say(fused)
        constants = [(k, Snapshot(inputs[k])) for k in fused.constants]
        for _, value in constants:
            value.freeze()
        run = self._rest(
            fused.module, any(node.op in ("call_function", "call_method") for node in fused.module.graph.nodes)
        )
        self.variants.append((constants, run))
        return run

    def _plain(self) -> Run:
        if self.plain is None:
            self.plain = self._rest(self.module, True)
        return self.plain

    def _rest(self, module: GraphModule, works: bool) -> Run:
        """What runs a graph around its rollouts."""
        if not works or self.options["rest"] == "eager":
            return module.forward
        missing = _no_inductor()
        if missing is not None:
            self._print(f"note: Inductor cannot compile ({missing}): what is around the steps runs as it is written")
            return module.forward
        return torch.compile(module, backend="inductor", mode=self.mode)

    def _say(self, fused: Fused) -> None:
        for one in fused.found:
            self._print(f"torch.compile: steps run as a rollout. {described(one.match.rule)}")
        if self.options["masks"] == "ncafast" and any(one.match.firing is not None for one in fused.found):
            self._print(
                "note: fire masks come from Philox: same rate, other cells; "
                "options={'masks': 'torch'} keeps the module's own draws"
            )

        if any(one.match.rule.hidden_dropout for one in fused.found):
            self._print("note: dropout of hidden units comes from Philox: same rate, other units")

    def _print(self, line: str) -> None:
        if not self.options["quiet"] and line not in _said:
            _said.add(line)
            print(line, file=sys.stderr)

    def _warn(self, reason: str) -> None:
        text = f"torch.compile: nothing of a graph runs fused: {reason}"
        if not self.options["quiet"]:
            warnings.warn(text, NotAcceleratedWarning, stacklevel=2)


def _no_inductor() -> str | None:
    """Why Inductor cannot compile for this machine's processor."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "no C++ compiler"
    return None
