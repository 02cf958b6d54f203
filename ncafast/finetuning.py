"""Training a part of a model: which parameters are frozen, and how many are left to train."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ncafast.models.base import RuleModule
from ncafast.nca import NCA


def num_trainable_parameters(model: nn.Module) -> int:
    """Numbers that an optimiser would change: the elements of all parameters that require a gradient."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def finetune(model: nn.Module, freeze: str | Sequence[str] | None = None) -> list[str]:
    """Freeze a part of a model, put it into training mode, and leave the rest to train.

    Norms with running statistics in the frozen part are put into evaluation mode, so that they stay as they are too; a
    later `model.train()` undoes that, so call this afterwards.

    Args:
        model: any module.
        freeze: names of parameters, or of the modules that they are in: `"perceive"` or `["perceive", "hidden"]` of an
            `NCA`, `"nca"` of a `Classifier`. None freezes all but the last layer: of an automaton all but the
            layer that gives the update, of a `Classifier` all but the head's last layer. `[]` freezes nothing.

    Returns:
        The names of the parameters that are left to train.

    Raises:
        ValueError: a name that is none of the model's, or nothing left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    if not names:
        raise ValueError(f"a {type(model).__name__} has no parameters to train")
    if freeze is None:
        last = _last_layer(model, names[-1].rpartition(".")[0])
        frozen = {name for name in names if name.rpartition(".")[0] != last}
    else:
        frozen = _named(names, [freeze] if isinstance(freeze, str) else freeze, type(model).__name__)
    trained = [name for name in names if name not in frozen]
    if not trained:
        raise ValueError(f"freeze={freeze!r} leaves nothing to train; leave a part of {', '.join(names)} out")
    model.train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    for path, module in model.named_modules():
        own = [f"{path}.{name}" if path else name for name, _ in module.named_parameters(recurse=False)]
        if isinstance(module, _BatchNorm) and own and frozen.issuperset(own):
            module.eval()
    return trained


def _last_layer(model: nn.Module, registered: str) -> str:
    """The layer that was registered last; if it is an automaton's, the one that gives its update."""
    for path, module in model.named_modules():
        if not isinstance(module, (NCA, RuleModule)):
            continue
        layers = module._layers(described=True) if isinstance(module, NCA) else module._layers()
        start = f"{path}." if path else ""
        if registered in {start + layer.name for layer in (*layers.filters, *layers.hidden, *layers.norms)}:
            return start + layers.update.name
    return registered


def _named(names: Sequence[str], freeze: Sequence[str], owner: str) -> set[str]:
    """The parameters that are meant, each by its own name or by that of a module around it."""
    found = set()
    for wanted in freeze:
        of_it = {name for name in names if name == wanted or name.startswith(f"{wanted}.")}
        if not of_it:
            known = dict.fromkeys(part for name in names for part in (name, name.rpartition(".")[0]) if part)
            raise ValueError(f"freeze={wanted!r} is no part of this {owner}; it has {', '.join(known)}")
        found |= of_it
    return found
