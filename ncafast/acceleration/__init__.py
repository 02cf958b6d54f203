"""accelerate: the steps of someone's own module, found, verified and run fused; the module stays theirs.

One step of the user's code is traced; the layers are looked up in the graph, all else is measured by evaluating parts
of it on probes. Nothing is patched that does not reproduce the module's states and gradients in float64. The package is
not called `accelerate`, since importing a module of that name would hide the function.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from torch import nn

from ncafast.acceleration import dynamo
from ncafast.acceleration.adapted import adapted
from ncafast.acceleration.adapters import Adapted, adapter
from ncafast.acceleration.assemble import Match
from ncafast.acceleration.benchmark import compare
from ncafast.acceleration.calls import Calls, Recorded, called, record
from ncafast.acceleration.converted import to_nca
from ncafast.acceleration.double import is_patch
from ncafast.acceleration.entry import Entry, entries, example_of
from ncafast.acceleration.errors import NotAccelerated
from ncafast.acceleration.layers import NO_LAYER
from ncafast.acceleration.match import SAY_SHAPE, Shape
from ncafast.acceleration.patch import Accelerated, NotAcceleratedWarning, OwnReplicas
from ncafast.acceleration.report import Finding, Report
from ncafast.acceleration.search import search
from ncafast.acceleration.update import NO_UPDATE
from ncafast.measuring.progress import Progress, silent
from ncafast.predicting import Predicting
from ncafast.rule import Rule

__all__ = [
    "Adapted",
    "Finding",
    "NotAccelerated",
    "NotAcceleratedWarning",
    "Report",
    "accelerate",
    "accelerated",
    "adapter",
    "explain",
    "restore",
    "to_nca",
]

dynamo.register()

Module = TypeVar("Module", bound=nn.Module)
_MASKS = ("ncafast", "torch")
SAY_EXAMPLE = "give an example of the model's inputs: accelerate(model, x, ...)"
SAY_METHOD = "name one with method="
_NO_STEPS = (SAY_EXAMPLE, SAY_SHAPE, NO_LAYER, NO_UPDATE)  # in reasons of methods that may not step at all


def accelerate(
    model: Module,
    *inputs: Any,
    method: str | None = None,
    steps: str | None = None,
    channels: int | None = None,
    ndim: int | None = None,
    channels_last: bool | None = None,
    masks: str = "ncafast",
    verify: bool = True,
    benchmark: bool = False,
    quiet: bool = False,
) -> Module:
    """Run the NCA steps inside a model fused. In place: same object, same parameters, same state_dict keys.

    In every module that steps an automaton, one method of that instance is replaced: its forward, if that takes a state
    and a number of steps or is one step, else its step method. It reads the module's present parameters at every call,
    and gradients reach them. A structure that changed (mode, attribute, buffer) is searched anew at the next call; a
    call that is not understood runs the module's own code and warns once.

    Args:
        model: a module, or one that contains such modules.
        *inputs: what the model, or `method`, is called with: for `benchmark`, and for methods that need more than a
            state and a number of steps. A copy of the model is run on them once, and its calls of its own methods
            are noted.
        method: name of the only method to look at.
        steps: name of that method's argument that is the number of steps, if it is not a usual one.
        channels: of the state, where it is not found out.
        ndim: spatial axes of the state.
        channels_last: whether states are [B, *S, C] and not [B, C, *S].
        masks: "ncafast" draws fire masks by Philox, as `ncafast.rollout` does (the same rate, other cells); "torch"
            makes the module's own draws, in its own order, and so gives the same results for the same seed.
        verify: compare states and all gradients with the module's own, in float64, before anything is replaced.
        benchmark: measure time and memory of the call with `inputs`, in the model's own code and accelerated, and
            print a small table; it takes up to half a minute and leaves the model as it is.
        quiet: do not print what was found, nor what is being measured.

    Returns:
        `model`.

    Raises:
        TypeError: `model` is not a module.
        NotAccelerated: nothing in the model can be accelerated; the message has one reason for each module.
        ValueError: an unknown value of `masks`, masks="torch" without `verify`, or `benchmark` without `inputs`.
    """
    if masks not in _MASKS:
        raise ValueError(f"masks={masks!r} is not allowed: choose one of {', '.join(_MASKS)}")
    if masks == "torch" and not verify:
        raise ValueError("masks='torch' needs verify=True, which finds out how the module draws")
    if benchmark and not inputs:
        raise ValueError("benchmark=True needs the inputs of a call to measure: accelerate(model, x, benchmark=True)")
    restore(model)
    shape = Shape(channels, ndim, channels_last)
    calls = record(model, inputs, method)
    report = Report(list(_findings(model, calls, method, steps, shape, verify)))
    if not any(finding.rule for finding in report.findings):
        raise NotAccelerated(f"nothing in this {type(model).__name__} can be accelerated:\n{report}")
    for finding in report.findings:
        if finding.entry is not None and finding.match is not None and finding.example is not None:
            patch = Accelerated(finding.module, finding.entry, shape, masks, verify)
            patch.remember(finding.example, finding.match)
            vars(finding.module)[finding.entry.method] = patch
            vars(finding.module)["_replicate_for_data_parallel"] = OwnReplicas(finding.module)
    if not quiet:
        print("\n".join([str(report), *_notes(report, masks, verify)]), file=sys.stderr)
    if benchmark:
        with Progress() as say:
            found = compare(model, partial(getattr(model, called(model, method)), *inputs), silent if quiet else say)
        print(found, file=sys.stderr)
    return model


def restore(model: Module) -> Module:
    """Undo `accelerate`: the model runs its own code again. A model that is not accelerated stays as it is.

    Raises:
        TypeError: not a module.
    """
    _check_module(model)
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if is_patch(value):
                del vars(module)[name]
    return model


@contextmanager
def accelerated(model: Module, *inputs: Any, **options: object) -> Iterator[Module]:
    """`accelerate` for the length of a `with` block; options and errors are the same.

    At the end of the block the model runs its own code, also if it was accelerated before.
    """
    try:
        yield accelerate(model, *inputs, **options)  # type: ignore[arg-type]
    finally:
        restore(model)


def explain(
    model: nn.Module,
    *inputs: Any,
    method: str | None = None,
    steps: str | None = None,
    channels: int | None = None,
    ndim: int | None = None,
    channels_last: bool | None = None,
) -> Report:
    """What `accelerate` would do, module by module: the rule that was found and verified, or the reason why not.

    The model stays as it is. For the question which backends can run a rule, see `ncafast.backends.explain`.

    Args:
        model: as for `accelerate`, and so are the other arguments.
        *inputs: what the model is called with.
        method: name of the only method to look at.
        steps: name of its argument that is the number of steps.
        channels: of the state.
        ndim: spatial axes of the state.
        channels_last: whether states are [B, *S, C].

    Returns:
        A report: print it, or read its `findings`.

    Raises:
        TypeError: not a module.
    """
    _check_module(model)
    shape = Shape(channels, ndim, channels_last)
    calls = record(model, inputs, method)
    return Report(list(_findings(model, calls, method, steps, shape, True)))


def _check_module(model: object) -> None:
    if not isinstance(model, nn.Module):
        hint = "; ncafast.backends.explain(rule, x) says which backends run a rule" if isinstance(model, Rule) else ""
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}{hint}")


def _findings(
    model: nn.Module, calls: Calls, method: str | None, steps: str | None, shape: Shape, proof: bool
) -> Iterator[Finding]:
    """One for each module of the user's that has parameters; what is inside a module that is found is part of it."""
    inside: set[int] = set()
    for name, module in model.named_modules():
        library = type(module).__module__.startswith("torch.nn.")
        if id(module) in inside or library or next(module.parameters(), None) is None:
            continue
        own = {called: call for (owner, called), call in calls.items() if owner == name}
        finding = _finding(name, module, own, method, steps, shape, proof)
        if finding.match is not None:
            inside |= {id(part) for part in module.modules()}
        yield finding


def _finding(
    name: str,
    module: nn.Module,
    calls: Mapping[str, Recorded],
    method: str | None,
    steps: str | None,
    shape: Shape,
    proof: bool,
) -> Finding:
    reasons, label = list[str](), f"{name or 'model'} ({type(module).__name__})"
    try:
        said = adapted(module)
    except NotAccelerated as error:
        return Finding(label, module, None, None, str(error))
    if said is not None:
        method, steps = method or said.method, steps or said.steps
    for entry in entries(module, method, steps, calls):
        function = getattr(type(module), entry.method).__get__(module)
        example = example_of(function, entry, calls.get(entry.method))
        found = search(module, entry, example, shape, proof) if example is not None else _needs(entry)
        if isinstance(found, Match):
            return Finding(label, module, entry, found, None, example, _of_forward(module, entry, calls, reasons))
        reasons.append(f"{entry.method}: {found}")
    return Finding(label, module, None, None, _most_helpful(reasons) if reasons else _no_entry(module, method))


def _of_forward(module: nn.Module, entry: Entry, calls: Mapping[str, Recorded], reasons: Sequence[str]) -> str | None:
    """What becomes of a module's forward where another of its methods is accelerated.

    Args:
        module: the user's.
        entry: the method.
        calls: the module's, where the model was run on inputs.
        reasons: why the methods before it are not accelerated.
    """
    if entry.method == "forward" or type(module).forward is nn.Module.forward:
        return None
    if entry.method in calls:
        called = f"forward calls {entry.method}"
    elif calls:
        called = f"nothing called {entry.method} with these inputs, so they run no faster"
    else:
        called = f"forward gains where it calls {entry.method}"
    why = next((reason.removeprefix("forward: ") for reason in reasons if reason.startswith("forward: ")), None)
    if why is not None and _is_vague(why):
        why = why.partition("; ")[0]  # without what would let a search find more
    return called if why is None else f"{called}; as a whole it is not accelerated: {why}"


def _most_helpful(reasons: Sequence[str]) -> str:
    """Of several methods' reasons the first of one that steps a state, else the first."""
    return next((reason for reason in reasons if not _is_vague(reason)), reasons[0])


def _is_vague(reason: str) -> bool:
    """Whether the method may be none that steps a state."""
    return any(words in reason for words in _NO_STEPS)


def _notes(report: Report, masks: str, verify: bool) -> Iterator[str]:
    """What makes results differ from the module's own, or was left out."""
    random = any(finding.match is not None and finding.match.firing is not None for finding in report.findings)
    if masks == "ncafast" and random:
        yield "note: fire masks come from Philox: same rate, other cells; masks='torch' keeps the module's own draws"
    if any(finding.rule is not None and finding.rule.hidden_dropout for finding in report.findings):
        yield (
            "note: dropout of hidden units comes from Philox: same rate, other units"
            if masks == "ncafast"
            else "note: modules that drop hidden units run their own code, since masks='torch' is not possible for them"
        )
    if not verify:
        yield "note: nothing was compared with the module's own results (verify=False)"


def _needs(entry: Entry) -> str:
    names = ", ".join(f"`{name}`" for name in entry.needs)
    return f"it also needs {names}; {SAY_EXAMPLE}"


def _no_entry(module: nn.Module, method: str | None) -> str:
    if isinstance(module, Predicting):
        return "ncafast's own modules run fused already"
    if method is not None:
        return f"`{method}` is no method that takes a state, and a number of steps or nothing else without a default"
    return f"no method takes a state, and a number of steps or nothing else without a default; {SAY_METHOD}"
