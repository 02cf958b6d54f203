"""`ncafast import`: the weights of a published model, as its authors' code saved them, as a model file of ncafast.

Nothing is unpickled but tensors: safetensors, and torch's weights-only format.
"""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ncafast import checkpoint, identify, parsers, pickled, rebuild
from ncafast.missing import why_missing

_PAGE = "docs/bring-your-own-weights.md"
_ENDING = ".safetensors"
# Models of several automata: what stands before the names of each one's tensors, and the number of the first.
_LEVELS = {"MedNCA": ("model{}.", 1), "M3DNCA": ("model.{}.", 0)}


def main(words: Sequence[str]) -> int:
    """`ncafast import CHECKPOINT`. Returns the exit code; errors as in `import_weights`."""
    options = parsers.weights().parse_args(list(words))
    if options.output.suffix != _ENDING:
        raise ValueError(f"--output: {options.output} would hold safetensors; give a name that ends in {_ENDING}")
    if os.path.lexists(options.output) and not options.overwrite:
        raise ValueError(f"--output: {options.output} exists; give another --output, or --overwrite to replace it")
    given = dict(_argument(text) for text in options.set)
    module, found = import_weights(options.checkpoint, options.like, key=options.key, arguments=given)
    checkpoint.save(options.output, module)
    count = sum(parameter.numel() for parameter in module.parameters())
    dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in module.parameters()} - {"float32"})
    kind = f" of {' and '.join(dtypes)}" if dtypes else ""
    print(f"{found.name}, {count:,} parameters{kind}: {_listed(found.told)}")
    if found.assumed:
        print(f"assumed, as no weight tells it: {_listed(found.assumed)}; --set NAME=VALUE says otherwise")
    print(f"written: {options.output}")
    return 0


def import_weights(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    like: str | None = None,
    *,
    key: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, identify.Found]:
    """Build the published model whose weights a file holds.

    Args:
        path: a .safetensors file, or one of torch.save that holds tensors only; of a MedNCA or M3DNCA also several, one
            per level, the coarsest first.
        like: the model's name in `ncafast.models`; None where keys and shapes fit a single one.
        key: where the weights are in a file that holds several things, such as "model_state_dict".
        arguments: of the model's constructor that the weights do not tell, by name.

    Returns:
        The model in evaluation mode, and the arguments that it was built with.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another kind, weights of another model or of several, or a wrong argument.
    """
    arguments = dict(arguments or {})
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    if not paths:
        raise ValueError("path holds no file; give one, or the files of all levels in their order")
    levels = [_inside(_plain_names(_weights(path, key))) for path in paths]
    try:
        tensors = levels[0] if len(levels) == 1 else _joined(levels, like)
        found = _identify(rebuild.shapes(tensors), like, arguments)
    except ValueError as error:
        raise ValueError(f"{', '.join(map(str, paths))}: {error}") from None
    config = found.told | found.assumed
    module = rebuild.build(found.name, config)
    checkpoint.take(module, tensors, config)
    return module.eval(), found


def _identify(shapes: dict[str, list[int]], like: str | None, arguments: Mapping[str, Any]) -> identify.Found:
    fits = identify.fitting(shapes, arguments)
    names = " or ".join(one.name for one in fits)
    if like is not None:
        try:
            return identify.fit(like, shapes, arguments)
        except ValueError as error:
            others = f"; they fit --like {names}" if fits and like not in names.split(" or ") else ""
            raise ValueError(f"{error}{others}") from None
    if len(fits) == 1:
        return identify.fit(fits[0].name, shapes, arguments)
    if fits:
        raise ValueError(f"the weights fit several models, which compute different things: give --like {names}")
    for one in identify.fitting(shapes, {}):  # so it is the arguments that do not fit
        identify.fit(one.name, shapes, arguments)
    first = ", ".join(f"{name} {size}" for name, size in list(shapes.items())[:4])
    raise ValueError(
        f"the weights are those of no published model ({first}, ...); --like NAME says why not of one, and "
        f"{_PAGE} how to write any other model as a Rule"
    )


def _joined(levels: Sequence[dict[str, Tensor]], like: str | None) -> dict[str, Tensor]:
    """The tensors of the model whose levels, in order, these are."""
    several = " or ".join(_LEVELS)
    if like is not None and like not in _LEVELS:
        raise ValueError(f"--like {like} is one model of one file; {several} takes a file for each of its levels")
    for name in [like] if like else _LEVELS:
        text, start = _LEVELS[name]
        prefixes = [text.format(number) for number in range(start, start + len(levels))]
        pairs = zip(prefixes, levels, strict=True)
        joined = {prefix + key: tensor for prefix, level in pairs for key, tensor in level.items()}
        if like or identify.fitting(rebuild.shapes(joined), {}):
            return joined
    alone = " or ".join(one.name for one in identify.fitting(rebuild.shapes(levels[0]), {}))
    raise ValueError(
        f"{len(levels)} files are the levels of {several}, the coarsest first, and these tensors fit neither"
        + (f"; the first file is of {alone}: import each by itself" if alone else "")
    )


def _weights(path: str | os.PathLike[str], key: str | None) -> dict[str, Tensor]:
    """The tensors of a file, by name."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: {why_missing(Path(path))}")
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("format") == checkpoint.FORMAT:
                raise ValueError(f"{path} is a model file of ncafast already: ncafast.load reads it")
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError:
        return _state_dict(path, _unpickled(path), key)


def _unpickled(path: str | os.PathLike[str]) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if _is_pickle(path):
            raise ValueError(f"{path} holds {_way_out(pickled.content(path))}") from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError):
        pass  # torch's words do not help here
    raise ValueError(
        f"{path} is neither a safetensors file nor one of torch.save, or damaged or cut short; for weights of flax "
        f"or TensorFlow see {_PAGE}"
    )


def _way_out(content: pickled.Content) -> str:
    """What is in a file beside tensors, and how to get the weights alone."""
    if content.top:
        what, part, more = f"a whole pickled module or other object, {content.top}", ".state_dict()", ""
    else:
        what = "more than tensors" + (f" ({', '.join(content.classes[:3])})" if content.classes else "")
        part = f"[{content.weights or 'model'!r}]"
        more = "" if content.weights else "; in place of 'model' the key of the state_dict in your file"
    return (
        f"{what}, and reading that runs code of the file's author. Where you trust it and have its classes: "
        f"torch.save(torch.load(PATH, weights_only=False){part}, 'weights.pth'), then import weights.pth{more}"
    )


def _is_pickle(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        return zipfile.is_zipfile(path) or file.read(1) == b"\x80"


def _state_dict(path: str | os.PathLike[str], data: Any, key: str | None) -> dict[str, Tensor]:
    if key is not None:
        if not isinstance(data, dict) or key not in data:
            known = ", ".join(map(str, data)) if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"{path} has no {key!r}; it holds {known}")
        data = data[key]
    if _is_state_dict(data):
        return dict(data)
    inside = [name for name, value in data.items() if _is_state_dict(value)] if isinstance(data, dict) else []
    if len(inside) == 1:
        return dict(data[inside[0]])
    if inside:
        raise ValueError(f"{path} holds several sets of weights: give --key {' or --key '.join(map(str, inside))}")
    raise ValueError(f"{path} holds a {type(data).__name__} without a state_dict of tensors by name")


def _is_state_dict(data: Any) -> bool:
    return isinstance(data, dict) and len(data) > 0 and all(isinstance(value, Tensor) for value in data.values())


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what wrappers put before the names of layers."""
    wrapped = all(name.startswith("module.") for name in tensors)
    names = {name: name.removeprefix("module.") if wrapped else name for name in tensors}
    return {names[name].replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}


def _inside(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names inside the one module that holds all tensors, such as `nca.` of a Lightning module, if that helps."""
    words = {name.partition(".")[0] for name in tensors}
    inside = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    if len(words) > 1 or identify.fitting(rebuild.shapes(tensors), {}):
        return tensors
    return inside if identify.fitting(rebuild.shapes(inside), {}) else tensors


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--set {text}: give NAME=VALUE, such as input_channels=3")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items())
