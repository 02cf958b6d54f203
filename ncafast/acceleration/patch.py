"""The method that takes the place of the user's, on that one module, and its way back."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ncafast.acceleration.aside import aside
from ncafast.acceleration.assemble import Match
from ncafast.acceleration.double import is_patch
from ncafast.acceleration.entry import Call, Entry, Example, defaults
from ncafast.acceleration.errors import NotAccelerated
from ncafast.acceleration.fused import fused
from ncafast.acceleration.given import call_key, check_given, other_numbers
from ncafast.acceleration.match import Shape
from ncafast.acceleration.repeats import check_loop, check_size, for_other_numbers
from ncafast.acceleration.search import search
from ncafast.acceleration.structure import Names, freeze, structure

_STRUCTURES = 16  # of a module, each with what was found
_CALLS = 1024  # of a structure: the index of a step may be an argument
EXPORTED = (
    "torch.export cannot look into an accelerated method: call ncafast.restore(model) first, or export "
    "ncafast.to_nca(model), whose rollout stays fused"
)


class NotAcceleratedWarning(UserWarning):
    """A call of an accelerated module that ran the module's own code, and why."""


class OwnReplicas:
    """Stands in the dict of an accelerated instance; nn.DataParallel's replicas of it run the module's own code.

    A replica has the instance's dict, and so the method that runs on the instance's parameters, on another device.
    """

    replaces_a_method = True

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self) -> nn.Module:
        """What DataParallel calls for each device."""
        replica: nn.Module = type(self.module)._replicate_for_data_parallel(self.module)
        for name in [name for name, value in vars(replica).items() if is_patch(value)]:
            del vars(replica)[name]
        reason = "a replica of nn.DataParallel runs its own code; DistributedDataParallel's processes run accelerated"
        warnings.warn(f"{type(self.module).__name__}: {reason}", NotAcceleratedWarning, stacklevel=2)
        return replica


class Accelerated:
    """Stands in an instance's dict where its class has a method, and runs that method's steps as one rollout."""

    replaces_a_method = True

    def __init__(self, module: nn.Module, entry: Entry, shape: Shape, masks: str, proof: bool) -> None:
        self.module, self.entry, self.shape, self.masks, self.proof = module, entry, shape, masks, proof
        self._forget()

    @torch.compiler.disable(reason=f"an accelerated method is one operator already; {EXPORTED}")
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the steps fused where the call is one that was found, else as the user wrote them."""
        call = self.entry.parts(self.signature, args, kwargs)
        found: Match | str
        if torch.compiler.is_exporting():
            found = EXPORTED
        else:
            found = self.find(Example(call.x, call.rest)) if self._takes(call) else "its arguments are of another kind"
        if isinstance(found, Match):
            found = self._reason(call, found) or found
        if isinstance(found, Match):
            return self._run(call, found)
        self._warn(found)
        return self.original(*args, **kwargs)

    @property
    def original(self) -> Any:
        """The user's own method."""
        return getattr(type(self.module), self.entry.method).__get__(self.module)

    def find(self, example: Example | None = None) -> Match | str:
        """What the module does in its present structure in such a call, or why it is not accelerated."""
        example = example or Example(None, defaults(self.original, self.entry))
        try:
            found = self._of_structure()
            key = call_key(example)
            if key in found:
                return found[key]
        except (TypeError, RuntimeError) as error:
            return f"its other arguments or attributes cannot be compared: {error}"
        if len(found) >= _CALLS:
            found.clear()
        known = [match for match in found.values() if isinstance(match, Match)]
        new = self._alike(known, example) or search(self.module, self.entry, example, self.shape, self.proof)
        found[key] = new
        if isinstance(new, Match):
            self.remember(example, new)
        return new

    def remember(self, example: Example, match: Match) -> None:
        """Take a match that was found for the module as it is now, in such a call."""
        self._caches |= match.caches
        self._of_structure()[call_key(example)] = match

    def _of_structure(self) -> dict[Any, Match | str]:
        """What is known of the module as it is now, by the calls that it was found for."""
        key = structure(self.module, self._caches)
        if key not in self._found:
            freeze(key)
            if len(self._found) >= _STRUCTURES:
                self._found.pop(next(iter(self._found)))
            self._found[key] = {}
        return self._found[key]

    def _alike(self, known: Sequence[Match], example: Example) -> Match | None:
        """A match for another call that holds for this one too, but for numbers in its extra channels."""
        with aside(self.module):
            for match in known[-1:]:
                if other_numbers(match.sample.rest, example.rest):
                    return for_other_numbers(self.module, match, example.rest)
        return None

    def _takes(self, call: Call) -> bool:
        return (
            isinstance(call.x, Tensor)
            and call.x.is_floating_point()
            and isinstance(call.steps, int)
            and call.steps >= 0
        )

    def _reason(self, call: Call, match: Match) -> str | None:
        """Why this one call is left to the user's code."""
        if call.x.dim() != match.rule.ndim + 2 or match.grid.inward(call.x).shape[1] != match.rule.channels:
            return f"the state has shape {list(call.x.shape)}"
        if self.masks == "torch" and match.rule.hidden_dropout:
            return "it drops hidden units, so masks='torch' is not possible"
        if self.masks == "torch" and match.firing is not None:
            if not match.firing.replays:
                return "its draws cannot be repeated, so masks='torch' is not possible"
            if call.x.dtype not in (torch.float32, torch.float64):
                return f"masks='torch' takes float32 and float64 states, not {call.x.dtype}"
        batch, _, *sizes = match.grid.inward(call.x).shape
        here = batch, tuple(sizes), torch.is_grad_enabled()
        known = here in match.checked_sizes
        longer = self.entry.steps is not None and call.steps > match.checked_steps
        try:
            check_given(call.rest, match.sample.roles, call.x.dtype, batch, sizes)
            if known and not longer:
                return None
            with aside(self.module):
                if longer:
                    check_loop(self.module, match, call.rest, call.steps)
                if not known:
                    check_size(self.module, match, *here)
        except NotAccelerated as reason:
            return str(reason)
        return None

    def _run(self, call: Call, match: Match) -> Any:
        mask = None
        if self.masks == "torch" and match.firing is not None and call.steps > 0:
            x = match.grid.inward(call.x)
            mask = torch.stack([match.firing.draw(x) for _ in range(call.steps)])
        return fused(self.module, match, call.x, call.steps, call.rest, mask)

    def _warn(self, reason: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            name = f"{type(self.module).__name__}.{self.entry.method}"
            warnings.warn(f"{name} runs its own code: {reason}", NotAcceleratedWarning, stacklevel=3)

    def _forget(self) -> None:
        self.signature = inspect.signature(getattr(type(self.module), self.entry.method).__get__(self.module))
        self._found: dict[Any, dict[Any, Match | str]] = {}
        self._caches: Names = frozenset()
        self._warned: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("module", "entry", "shape", "masks", "proof")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._found, self._caches, self._warned = {}, frozenset(), set()

    def __getattr__(self, name: str) -> Any:
        if name == "signature" and "module" in self.__dict__:  # a copy's: its module was not complete before
            self.signature = inspect.signature(self.original)
            return self.signature
        if name == "__code__":  # which torch.export reads
            raise AttributeError(EXPORTED)
        raise AttributeError(name)
