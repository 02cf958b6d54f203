"""Which published model a state_dict is of, and what its shapes tell of the constructor's arguments.

Keys and shapes alone: an argument that they do not tell, such as a fire rate, gets its default and is listed so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ncafast.keywords import hint
from ncafast.rebuild import CLASSES, misfit, shapes_of

Shapes = Mapping[str, list[int]]

# Arguments without a default in the original.
_ASSUMED: dict[str, Any] = {"fire_rate": 0.5, "c_out": 3}
# Arguments that change nothing about a model whose weights are given.
_IDLE = ("init_method", "groups", "inplace_relu", "perception_kernels", "seed_mode", "perception_scales")
# Arguments that must be given, and an example.
_NEEDED = {"OctreeNCA": ("res_and_steps", "[[[320,320],5],[[160,160],20]], grid and steps of each level, finest first")}


class Found(NamedTuple):
    """A model whose keys and shapes are those of the weights."""

    name: str
    told: dict[str, Any]
    """The arguments that the shapes tell, or the user."""
    assumed: dict[str, Any]
    """The others, with the values that they get."""


def fitting(found: Shapes, given: Mapping[str, Any]) -> list[Found]:
    """All published models that these keys and shapes fit, with the user's arguments."""
    fits = (_fit(name, found, given) for name in _READERS if not set(given) - set(arguments_of(name)))
    return [one for one in fits if isinstance(one, Found)]


def fit(name: str, found: Shapes, given: Mapping[str, Any]) -> Found:
    """The arguments of one model.

    Raises:
        ValueError: the keys or shapes of another model, or an argument that is missing, unknown or not allowed.
    """
    if name not in _READERS:
        raise ValueError(f"there is no model {name!r}; there are {', '.join(_READERS)}")
    known = arguments_of(name)
    unknown = [key for key in given if key not in known]
    if unknown:
        like = hint(unknown[0], known)
        raise ValueError(f"{name} has no argument {unknown[0]!r}{like}; it has {', '.join(known)}")
    result = _fit(name, found, given)
    if isinstance(result, str):
        raise ValueError(result)
    key, example = _NEEDED.get(name, (None, ""))
    if key is not None and key not in given:
        raise ValueError(f"{name} needs an argument that no weight tells, {key}, such as {key}={example}")
    return result


def said_of(tensors: Any) -> str:
    """Whose tensors a state_dict holds, as a sentence for an error; empty where no model is known to have such."""
    if not (isinstance(tensors, Mapping) and all(isinstance(tensor, Tensor) for tensor in tensors.values())):
        return ""
    found = {str(key): list(tensor.shape) for key, tensor in tensors.items()}
    if {"hidden.weight", "hidden.bias", "update.weight"} <= found.keys():
        return "The tensors are those of an ncafast.NCA."
    names = [f"{one.name}({_told(one)})" for one in fitting(found, {})]
    return f"The tensors are those of {' or '.join(f'ncafast.models.{name}' for name in names)}." if names else ""


def _told(found: Found) -> str:
    """The arguments that shapes tell; grids that stand for those that the user gives are none."""
    needed, _ = _NEEDED.get(found.name, (None, ""))
    return ", ".join(f"{key}={value!r}" for key, value in found.told.items() if key != needed)


def arguments_of(name: str) -> list[str]:
    """The arguments of a model's constructor."""
    return [key for key in inspect.signature(CLASSES[name]).parameters if key != "device"]


def _fit(name: str, found: Shapes, given: Mapping[str, Any]) -> Found | str:
    """The model, or why it is not this one."""
    no = f"the weights are not those of a {name}:"
    try:
        told = _READERS[name](found) | dict(given)
    except KeyError as error:
        return f"{no} {error.args[0]} is missing"
    except (LookupError, ValueError):
        return f"{no} its tensors have another number of axes"
    parameters = inspect.signature(CLASSES[name]).parameters
    rest = [key for key in arguments_of(name) if key not in told and key not in _IDLE]
    assumed = {key: _ASSUMED[key] if key in _ASSUMED else parameters[key].default for key in rest}
    try:
        wanted = shapes_of(name, told | assumed)
    except (TypeError, ValueError) as error:
        return f"{name} cannot be built for these weights: {' '.join(str(error).split())}"
    reason = misfit(found, wanted, told | assumed)
    return Found(name, told, assumed) if reason is None else f"{no} {reason}"


def _image(s: Shapes) -> dict[str, Any]:
    """fc0 and fc1, the latter with a row per channel."""
    return {"channel_n": s["fc1.weight"][0], "hidden_size": s["fc0.weight"][0]}


def _basic(s: Shapes) -> dict[str, Any]:
    return _image(s) | {"batch_norm": "bn.weight" in s}


def _backbone(s: Shapes) -> dict[str, Any]:
    return _basic(s) | {"kernel_size": s["p0.weight"][2]}


def _basic3d(s: Shapes) -> dict[str, Any]:
    return _image(s) | {"kernel_size": s["p0.weight"][2]}


def _classifier(s: Shapes) -> dict[str, Any]:
    return _image(s) | {"num_classes": s["fc3.weight"][0]}


def _fast(s: Shapes, prefix: str = "") -> dict[str, Any]:
    channels = s[f"{prefix}conv.weight"][0]
    return {
        "channel_n": channels,
        "hidden_size": s[f"{prefix}fc0.weight"][0],
        "input_channels": channels - s[f"{prefix}fc1.weight"][0],
        "kernel_size": s[f"{prefix}conv.weight"][2],
    } | ({} if f"{prefix}bn.weight" in s else {"normalization": "none"})


def _octree(s: Shapes) -> dict[str, Any]:
    """With grids that stand for those that the user gives."""
    count = _count(s, "backbone_ncas")
    prefixes = [f"backbone_ncas.{n}." for n in range(count)] or ["backbone_nca."]
    axes = len(s[f"{prefixes[0]}conv.weight"]) - 2
    sizes = [_fast(s, prefix)["kernel_size"] for prefix in prefixes]
    grids = [[(2 ** (len(sizes) - 1 - n),) * axes, 1] for n in range(len(sizes))]
    told = _fast(s, prefixes[0]) | {"separate_models": count > 0, "res_and_steps": grids}
    return told | {"kernel_size": sizes if count else sizes[0]}


def _m3d(s: Shapes) -> dict[str, Any]:
    levels = _count(s, "model")
    sizes = [s[f"model.{n}.p0.weight"][2] for n in range(levels)]
    hidden, channels = s["model.0.fc0.weight"][0], s["model.0.fc1.weight"][0]
    return {"channel_n": channels, "hidden_size": hidden, "levels": levels, "kernel_size": sizes}


def _nca2d(s: Shapes, prefix: str = "") -> tuple[int, int, int, int]:
    """Channels, hidden width, filter size, image channels."""
    channels, _, size, *_ = s[f"{prefix}perception.weight"]
    return channels, s[f"{prefix}fc1.weight"][0], size, channels - s[f"{prefix}fc2.weight"][0]


def _mednca(s: Shapes) -> dict[str, Any]:
    (channels, hidden, coarse, images), (*_, fine, _) = _nca2d(s, "model1."), _nca2d(s, "model2.")
    return {"channels": channels, "hidden": hidden, "kernel_sizes": (coarse, fine), "image_channels": images}


def _digits(s: Shapes) -> dict[str, Any]:
    outputs, channels, *kernel = s["perceive.conv.weight"]
    hidden = tuple(s[f"update.layers.{n}.weight"][0] for n in range(_count(s, "update.layers") - 1))
    sizes = {"channel_size": channels, "perception_size": outputs, "hidden_layer_sizes": hidden}
    return sizes | {"ndim": len(kernel)}


def _bank(channels: str, condition: bool = True) -> Callable[[Shapes], dict[str, Any]]:
    """A reader of w1 and w2, for a model that calls its channels so."""

    def read(s: Shapes) -> dict[str, Any]:
        count = s["w2.weight"][0]
        told = {channels: count, "fc_dim": s["w1.weight"][0]}
        return told | ({"cond_chn": s["w1.weight"][1] - 4 * count} if condition else {})

    return read


def _pixels(s: Shapes) -> dict[str, Any]:
    level = {"noise_level": 0.0} if "noise_level" in s else {"noise_level": None}
    return _bank("channels")(s) | level


def _dynca(s: Shapes) -> dict[str, Any]:
    told = _bank("c_in")(s)
    return told | {"pos_emb": "CPE" if told.pop("cond_chn") else None}


def _count(s: Shapes, prefix: str) -> int:
    return len({key.removeprefix(f"{prefix}.").split(".")[0] for key in s if key.startswith(f"{prefix}.")})


_READERS: dict[str, Callable[[Shapes], dict[str, Any]]] = {
    "BackboneNCA": _backbone,
    "BasicNCA": _basic,
    "BasicNCA2DFast": _fast,
    "BasicNCA3D": _basic3d,
    "BasicNCA3DFast": _fast,
    "Cells2PixelsNCA": _pixels,
    "DyNCA": _dynca,
    "GrowingNCA": _image,
    "M3DNCA": _m3d,
    "MaxNCA": _classifier,
    "MedNCA": _mednca,
    "NCA2D": lambda s: dict(zip(("c", "h", "k", "input_channels"), _nca2d(s), strict=True)),
    "NoiseNCA": lambda s: _bank("chn")(s) | {"noise_level": s["noise_level"] and 0.0},
    "OctreeNCA": _octree,
    "PENCA": _bank("chn", condition=False),
    "SelfClassifyingNCA": _digits,
    "TextureNCA": lambda s: {"num_channels": s["mlp.2.weight"][0], "hidden_neurons": s["mlp.0.weight"][0]},
    "VanillaNCA": _bank("chn"),
    "WBCMaxNCA": _classifier,
}
