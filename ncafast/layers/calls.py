"""Whether calling a layer does what its class does and no more."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules import module as _globals
from torch.nn.modules.lazy import LazyModuleMixin

_HOOKS = {
    "_forward_pre_hooks": "forward pre-hook",
    "_forward_hooks": "forward hook",
    "_backward_pre_hooks": "backward pre-hook",
    "_backward_hooks": "backward hook",
}
# Hooks of torch that compute the weight, and what does the same without a hook.
_COMPUTES_WEIGHT = {
    "torch.nn.utils.prune": "make the pruning permanent with torch.nn.utils.prune.remove()",
    "torch.nn.utils.weight_norm": "use torch.nn.utils.parametrizations.weight_norm",
    "torch.nn.utils.spectral_norm": "use torch.nn.utils.parametrizations.spectral_norm",
}
_ignored = False


@contextmanager
def ignore_hooks() -> Iterator[None]:
    """Run models although their layers have hooks, which are not called.

    A rollout runs all steps at once and calls no layer, so a model whose layers have hooks is refused. Inside this
    context it runs as if the hooks were not there. Use it for hooks that only observe, such as those of a summary tool.
    Hooks that compute a layer's weight (pruning, old-style weight_norm) are refused here too.
    """
    global _ignored
    before, _ignored = _ignored, True
    try:
        yield
    finally:
        _ignored = before


def check_call(name: str, layer: nn.Module, *kinds: type[nn.Module]) -> type[nn.Module]:
    """The one of `kinds` whose forward the layer has, without hooks around it.

    Raises:
        ValueError: it has hooks, is of another class or has a forward of its own.
    """
    if isinstance(layer, nn.Module):
        # len(), since torch.compile guards that; it takes it that nobody registers hooks after compiling.
        if len(layer._forward_pre_hooks) or len(layer._forward_hooks):
            _check_hooks(name, layer)
        if len(layer._backward_pre_hooks) or len(layer._backward_hooks):
            _check_hooks(name, layer)
        if "forward" not in layer.__dict__:
            for kind in kinds:
                if isinstance(layer, kind) and layer.forward.__func__ is kind.forward:  # type: ignore[attr-defined]
                    return kind
    raise ValueError(_other_class(name, layer, kinds))


def note_global_hooks() -> None:
    """Warn that hooks on all modules are not called for the layers of a rollout; torch's own only count and time."""
    for hook in (hook for table in _HOOKS for hook in getattr(_globals, f"_global{table}").values()):
        owner = getattr(hook, "__self__", hook)
        module = getattr(owner, "__module__", None) or type(owner).__module__
        if not module.startswith("torch."):
            warnings.warn(
                f"the global module hook {_spelled(hook)} is not called for the layers inside a rollout, which runs "
                "all steps at once; it sees the whole model only",
                stacklevel=2,
            )


def _check_hooks(name: str, layer: nn.Module) -> None:
    if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():
        raise ValueError(f"{name} is a lazy layer without a weight; give it its sizes: {_first_kind(layer)}(...)")
    for table, kind in _HOOKS.items():
        for hook in getattr(layer, table).values():
            text = _hook_text(name, layer, hook, kind)
            if text is not None:
                raise ValueError(text)


def _hook_text(name: str, layer: nn.Module, hook: Any, kind: str) -> str | None:
    module = str(getattr(type(hook), "__module__", ""))
    if module in _COMPUTES_WEIGHT:
        old = module.rsplit(".", 1)[1]
        return (
            f"{name} has its weight computed by torch.nn.utils.{old} in a hook, which a rollout does not call; "
            f"{_COMPUTES_WEIGHT[module]}, or a parametrization (torch.nn.utils.parametrize)"
        )
    if type(layer).__name__.startswith("FSDP"):
        return f"{name} is sharded by itself, and a rollout needs all its weights; shard the whole model"
    if _ignored:
        return None
    return (
        f"{name} has a {kind} ({_spelled(hook)}), which a rollout does not call, since it runs all steps at once; "
        "remove the hook or register it on the whole model, or, if it only observes, run inside "
        "ncafast.ignore_hooks()"
    )


def _other_class(name: str, layer: Any, kinds: tuple[type[nn.Module], ...]) -> str:
    kind, allowed = type(layer), " or ".join(one.__name__ for one in kinds)
    reads = f"a rollout reads the tensors of {name} and does not call it"
    if layer is None:
        return f"{name} is None; it must be {allowed} (for no norm torch.nn.Identity())"
    if isinstance(layer, nn.SyncBatchNorm):
        return (
            f"{name} is a SyncBatchNorm, whose statistics go over all processes, which a rollout cannot do; keep "
            "BatchNorm (each process takes its own samples) or use another norm, such as GroupNorm"
        )
    if hasattr(layer, "_orig_mod"):
        return f"{name} is compiled by itself, but {reads}; compile the whole model"
    if hasattr(layer, "_fsdp_wrapped_module") or isinstance(layer, nn.parallel.DistributedDataParallel):
        return f"{name} is wrapped in a {kind.__name__} by itself, but {reads}; wrap the whole model"
    if isinstance(layer, kinds):
        which = "replaced" if "forward" in layer.__dict__ else f"of its own ({kind.__module__}.{kind.__qualname__})"
        return f"{name} has a forward {which}, but {reads}; it must be a plain {allowed}"
    return (
        f"{name} is a {kind.__module__}.{kind.__qualname__}, but {reads}; it must be {allowed}: fold an adapter into "
        "the weight (peft: merge_and_unload()) or make it a parametrization (torch.nn.utils.parametrize)"
    )


def _first_kind(layer: nn.Module) -> str:
    return layer.cls_to_become.__name__ if isinstance(layer.cls_to_become, type) else type(layer).__name__


def _spelled(hook: Any) -> str:
    return str(getattr(hook, "__name__", None) or type(hook).__name__)
