"""The method that takes the place of the user's, on that one module, and its way back."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ncafast import backends
from ncafast.acceleration.assemble import Match
from ncafast.acceleration.double import is_patch
from ncafast.acceleration.entry import Call, Entry, Rest, defaults
from ncafast.acceleration.errors import NotAccelerated, at_exception
from ncafast.acceleration.graph import named_tensors
from ncafast.acceleration.match import Shape, find_match
from ncafast.acceleration.repeats import check_loop, check_size
from ncafast.acceleration.structure import freeze, structure
from ncafast.acceleration.verify import verify
from ncafast.functional import rollout

_REMEMBERED = 16  # structures and arguments of a module, each with what was found


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

    @torch.compiler.disable(reason="an accelerated method is one operator already, and its search cannot be traced")
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the steps fused where the call is one that was found, else as the user wrote them."""
        call = self.entry.parts(self.signature, args, kwargs)
        found = self.find(call.rest) if self._takes(call) else "its arguments are of another kind"
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

    def find(self, rest: Rest | None = None) -> Match | str:
        """What the module does in its present structure with these arguments, or why it is not accelerated."""
        rest = defaults(self.original, self.entry) if rest is None else rest
        try:
            key = (structure(self.module), rest)
            if key in self._found:
                return self._found[key]
        except (TypeError, RuntimeError) as error:
            return f"its other arguments or attributes cannot be compared: {error}"
        found = search(self.module, self.entry, rest, self.shape, self.proof)
        freeze(key)
        if len(self._found) >= _REMEMBERED:
            self._found.pop(next(iter(self._found)))
        self._found[key] = found
        return found

    def remember(self, match: Match) -> None:
        """Take a match that was found for the module as it is now, called without other arguments."""
        key = (structure(self.module), defaults(self.original, self.entry))
        freeze(key)
        self._found[key] = match

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
        if self.masks == "torch" and match.firing is not None:
            if not match.firing.replays:
                return "its draws cannot be repeated, so masks='torch' is not possible"
            if call.x.dtype not in (torch.float32, torch.float64):
                return f"masks='torch' takes float32 and float64 states, not {call.x.dtype}"
        batch, _, *sizes = match.grid.inward(call.x).shape
        known = (batch, tuple(sizes)) in match.checked_sizes
        longer = self.entry.steps is not None and call.steps > match.checked_steps
        if known and not longer:
            return None
        try:
            with aside(self.module):
                if longer:
                    check_loop(self.module, self.entry, call.rest, match, call.steps)
                if not known:
                    check_size(self.module, self.entry, call.rest, match, batch, tuple(sizes))
        except NotAccelerated as reason:
            return str(reason)
        return None

    def _run(self, call: Call, match: Match) -> Tensor:
        x = match.grid.inward(call.x)
        params = match.parameters(list(named_tensors(self.module).values()))
        mask = None
        if self.masks == "torch" and match.firing is not None and call.steps > 0:
            mask = torch.stack([match.firing.draw(x) for _ in range(call.steps)])
        out = rollout(x, match.rule, params, call.steps, fire_mask=mask)
        assert isinstance(out, Tensor)
        return match.grid.outward(out)

    def _warn(self, reason: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            name = f"{type(self.module).__name__}.{self.entry.method}"
            warnings.warn(f"{name} runs its own code: {reason}", NotAcceleratedWarning, stacklevel=3)

    def _forget(self) -> None:
        self.signature = inspect.signature(getattr(type(self.module), self.entry.method).__get__(self.module))
        self._found: dict[Any, Match | str] = {}
        self._warned: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("module", "entry", "shape", "masks", "proof")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._found, self._warned = {}, set()

    def __getattr__(self, name: str) -> Any:
        if name == "signature" and "module" in self.__dict__:  # a copy's: its module was not complete before
            self.signature = inspect.signature(self.original)
            return self.signature
        raise AttributeError(name)


def search(module: nn.Module, entry: Entry, rest: Rest, shape: Shape, proof: bool) -> Match | str:
    """Find and verify; the reason where that fails. torch's random state is left as it was."""
    with aside(module):
        try:
            match = find_match(module, entry, rest, shape)
            if proof:
                verify(module, entry, rest, match)
            if entry.steps is not None:
                check_loop(module, entry, rest, match, 3)
            check_size(module, entry, rest, match, 1, (64,) * match.rule.ndim)
            return reason if (reason := unfused(module, match)) else match
        except NotAccelerated as reason:
            return str(reason)
        except Exception as error:  # a foreign module may hold what nobody thought of; it then keeps its own code
            return f"the search failed: {at_exception(error)}"


def unfused(module: nn.Module, match: Match) -> str | None:
    """Why no fused backend runs a rule on the module's device and in its dtype."""
    like = next(iter(module.parameters()))
    x = torch.empty(1, match.rule.channels, *[16] * match.rule.ndim, dtype=like.dtype, device=like.device)
    reasons = backends.explain(match.rule, x)
    if any(reason is None for name, reason in reasons.items() if name != "reference"):
        return None
    meant = [reason for name, reason in reasons.items() if getattr(backends.get(name), "DEVICE", None) == x.device.type]
    return f"the rule was found, but no fused backend runs it here: {meant[-1] if meant else x.device.type}"


@contextmanager
def aside(module: nn.Module) -> Iterator[None]:
    """Random numbers that are always the same and leave the user's as they were; gradients, whatever the user's mode.

    One thread, since grids are small. No warnings: of a state of another shape than the module's, PyTorch may warn.
    """
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    threads = torch.get_num_threads()
    quiet = warnings.catch_warnings()
    with quiet, torch.random.fork_rng(devices=list(devices)), torch.inference_mode(False), torch.enable_grad():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
