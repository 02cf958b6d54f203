"""Whether a class and its constructor's arguments build a module again, tensors aside; and if not, why.

The twin to compare with is built on the meta device, once for every class and arguments.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ncafast import models
from ncafast.heads import Classifier
from ncafast.nca import NCA

CLASSES: dict[str, type[nn.Module]] = {"NCA": NCA, "Classifier": Classifier} | {
    name: getattr(models, name) for name in models.__all__
}
_PLAIN = (bool, int, float, str, tuple, type(None))
_FREE = ("training", "momentum")  # attributes of layers that no forward pass in evaluation reads
_ADVICE = (
    (".parametrizations.", "torch.nn.utils.parametrize.remove_parametrizations makes it a plain weight"),
    ("weight_orig", "torch.nn.utils.prune.remove makes it a plain weight"),
    ("weight_mask", "torch.nn.utils.prune.remove makes it a plain weight"),
    ("weight_g", "torch.nn.utils.remove_weight_norm makes it a plain weight"),
    ("_orig_mod.", "a part was wrapped by torch.compile; compile the whole module, or put back its _orig_mod"),
    ("_packed_params", "save it before it is quantised"),
)


class _Facts(NamedTuple):
    shapes: dict[str, list[int]]
    layers: dict[str, tuple[type[nn.Module], dict[str, Any]]]


def build(name: str, config: dict[str, Any]) -> nn.Module:
    """The module of a known class."""
    make: Callable[..., nn.Module] = getattr(CLASSES[name], "from_config", CLASSES[name])
    return make(**config)


def knows(module: nn.Module) -> bool:
    """Whether the module's class is one of ncafast's, neither a subclass nor a namesake."""
    return type(module) is CLASSES.get(type(module).__name__)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside torch.compile's, DataParallel's and DistributedDataParallel's wrappers, or that was sharded."""
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        elif type(module).__name__ == "OptimizedModule" and isinstance(module._orig_mod, nn.Module):
            module = module._orig_mod
        elif isinstance(whole := getattr(type(module), "_whole", None), nn.Module):
            module = whole
        else:
            return module


def config_of(module: nn.Module) -> str:
    """The constructor's arguments as JSON.

    Raises:
        ValueError: an argument that JSON cannot hold.
    """
    config: dict[str, Any] = module.config()  # type: ignore[operator]
    for name, value in config.items():
        try:
            json.dumps(value, default=_number)
        except (TypeError, ValueError):
            kind = type(value).__name__
            raise ValueError(f"{name} is a {kind}, and a file holds only numbers, text and lists of these") from None
    return json.dumps(config, default=_number)


def obstacle(module: nn.Module) -> str | None:
    """Why `ncafast.load` could not build this module again from a file of `ncafast.save`, or None."""
    name = type(module).__name__
    if not knows(module):
        parents = [kind.__name__ for kind in type(module).__mro__ if kind in CLASSES.values()]
        what = f"a {name} is a subclass of {parents[0]}" if parents else f"{name} is not a class of ncafast"
        return f"{what}, and load would not know how to build it"
    try:
        config = config_of(module)
        wanted, found = _wanted(name, config), _facts(module)
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:
        return " ".join(str(error).split())
    return misfit(found.shapes, wanted.shapes, json.loads(config)) or _other_layer(found.layers, wanted.layers)


def misfit(found: Mapping[str, list[int]], wanted: Mapping[str, list[int]], config: dict[str, Any]) -> str | None:
    """The first reason why tensors of these shapes are not those of the module that `config` builds, or None."""
    surplus = [key for key in found if key not in wanted]
    missing = [key for key in wanted if key not in found]
    if surplus or missing:
        parts = [f"{_listed(surplus)} not known to the class"] if surplus else []
        parts += [f"{_listed(missing)} missing"] if missing else []
        return ", ".join(parts) + _advice(surplus)
    for key, shape in wanted.items():
        if found[key] != shape:
            return f"{key} has shape {found[key]}, its arguments give {shape}{_argument(found[key], shape, config)}"
    return None


def shapes(tensors: Mapping[str, Any]) -> dict[str, list[int]]:
    """The shapes of the tensors in a state_dict."""
    return {key: list(value.shape) for key, value in tensors.items() if isinstance(value, Tensor)}


def shapes_of(name: str, config: dict[str, Any]) -> dict[str, list[int]]:
    """The shapes in the state_dict of the module that `config` builds."""
    return _wanted(name, json.dumps(config)).shapes


@lru_cache(maxsize=64)
def _wanted(name: str, config: str) -> _Facts:
    arguments = json.loads(config)
    if "device" in inspect.signature(CLASSES[name]).parameters:  # some constructors move what they have made
        arguments["device"] = "meta"
    with torch.device("meta"):
        return _facts(build(name, arguments))


def _facts(module: nn.Module) -> _Facts:
    layers = module.named_modules(remove_duplicate=False)
    return _Facts(shapes(module.state_dict()), {path: (type(layer), _settings(layer)) for path, layer in layers})


def _settings(layer: nn.Module) -> dict[str, Any]:
    """What a layer does beside its tensors: of torch's the plain attributes, of ncafast's the rule."""
    if not type(layer).__module__.startswith("torch."):
        rule = getattr(layer, "rule", None)
        return {} if rule is None else {f"rule.{key}": value for key, value in json.loads(rule.to_json()).items()}
    plain = ((key, value) for key, value in vars(layer).items() if not key.startswith("_") and key not in _FREE)
    return {key: value for key, value in plain if isinstance(value, _PLAIN)}


def _other_layer(
    found: dict[str, tuple[type[nn.Module], dict[str, Any]]], wanted: dict[str, tuple[type[nn.Module], dict[str, Any]]]
) -> str | None:
    for path, (kind, settings) in wanted.items():
        if path not in found:
            return f"{path} is missing"
        own_kind, own = found[path]
        if own_kind is not kind:
            return f"{path} is a {own_kind.__name__}, and load would build a {kind.__name__}"
        for key, value in settings.items():
            if own.get(key) != value:
                name = f"{path}.{key}".lstrip(".")
                return f"{name} is {own.get(key)!r}, and load would set it to {value!r}"
    return None


def _listed(keys: list[str]) -> str:
    shown = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
    return f"{shown} {'is' if len(keys) == 1 else 'are'}"


def _advice(keys: Iterable[str]) -> str:
    return next((f" ({text})" for key in keys for part, text in _ADVICE if part in key), "")


def _argument(found: list[int], wanted: list[int], config: dict[str, Any]) -> str:
    """The one argument that seems to give the size that differs, such as num_classes for another last layer."""
    pairs = [pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1]]
    if len(found) != len(wanted) or len(pairs) != 1:
        return ""
    have, want = pairs[0]
    names = [name for name, value in config.items() if type(value) is int and value == want]
    return f" (set the module's attribute {names[0]} to {have} as well)" if len(names) == 1 else ""


def _number(value: Any) -> Any:
    """A number of numpy's, or a tensor of one, as Python's."""
    if getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError
