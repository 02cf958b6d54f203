"""Checkpoints: a model with its weights in one safetensors file, and training state in a file of its own.

A model file holds only tensors and text: class name, constructor arguments and rule stand in the metadata, so `load`
builds the module and `ncafast info FILE` can describe it without loading weights. Nothing is unpickled but torch's
weights-only format. Files are written beside their place and moved there, so a kill leaves the old file or the new one.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from ncafast import models
from ncafast.nca import NCA

FORMAT = "ncafast"
FORMAT_VERSION = "1"
_CLASSES: dict[str, type[nn.Module]] = {"NCA": NCA} | {name: getattr(models, name) for name in models.__all__}
_OWN = ("format", "format_version", "ncafast", "model", "config")  # metadata that `save` writes itself
_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError)


def save(path: str | os.PathLike[str], module: nn.Module, **metadata: str) -> None:
    """Write a module to a safetensors file, atomically.

    Args:
        path: the file; its folder is made if missing.
        module: an `NCA` or one of `ncafast.models`.
        **metadata: further text to keep, such as task="mednca"; `describe` returns it.

    Raises:
        TypeError: a module of another class, or metadata that is not text.
        ValueError: metadata under a name that the file needs itself.
        OSError: the file cannot be written.
    """
    name = type(module).__name__
    if not knows(module):
        own = f"{type(module).__module__}.{name}" if name in _CLASSES else name
        raise TypeError(
            f"cannot save a {own}: known are {', '.join(_CLASSES)}; for others use torch.save(module.state_dict())"
        )
    for key, value in metadata.items():
        if key in _OWN:
            raise ValueError(f"metadata {key}={value!r} is not allowed: the names {', '.join(_OWN)} are taken")
        if not isinstance(value, str):
            raise TypeError(f"metadata {key}={value!r} must be text, got {type(value).__name__}")
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "ncafast": _version(),
        "model": name,
        "config": json.dumps(module.config()),  # type: ignore[operator]
        **metadata,
    }
    save_tensors(path, module, **header)


def knows(module: nn.Module) -> bool:
    """Whether `save` takes the module."""
    return type(module) is _CLASSES.get(type(module).__name__)


def save_tensors(path: str | os.PathLike[str], module: nn.Module, **metadata: str) -> None:
    """Write the weights of any module, atomically and without what `load` needs to build it again;
    `safetensors.torch.load_file` reads them."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    _write(Path(path), serialise(tensors, metadata=metadata))


def load(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> nn.Module:
    """Build the module that `save` wrote, with its weights in the dtype they had, in evaluation mode.

    Args:
        path: the file.
        device: where the module goes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, not written by ncafast, by a newer version, or not fitting its own description; one line.
    """
    header = describe(path)
    try:
        module = _build(header["model"], json.loads(header["config"]))
        with safe_open(path, "pt") as file:
            # Clones, since the file's own memory changes when someone writes into the file.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - not a dict
        _take(module, tensors)
    except (*_DAMAGE, SafetensorError) as error:
        raise ValueError(f"{path} does not fit its own description: {_one_line(error)}") from None
    return module.to(device).eval()


def _build(name: str, config: dict[str, Any]) -> nn.Module:
    build: Callable[..., nn.Module] = NCA.from_config if name == "NCA" else _CLASSES[name]
    return build(**config)


def _take(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give the module these tensors in their own dtypes, and what a file does not hold in the one they share."""
    for key, own in module.state_dict().items():
        found = tensors.get(key, own)
        if found.dtype != own.dtype and not (found.is_floating_point() and own.is_floating_point()):
            raise ValueError(f"{key} holds {found.dtype}, and {own.dtype} is needed")
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(dtypes) == 1:
        module.to(dtypes.pop())
    module.load_state_dict(tensors, assign=True)


def find(place: str | os.PathLike[str]) -> Path:
    """The model file that a path stands for: itself, or the best one (else the last one) of a training run's folder.

    Raises:
        ValueError: there is none.
    """
    path = Path(place)
    if path.is_file():
        return path
    for name in ("best.safetensors", "last.safetensors"):
        if (path / name).is_file():
            return path / name
    if (path / "results.csv").is_file():
        raise ValueError(f"{path}: holds several trainings, see its results.csv; give the folder of one of them")
    what = "holds no best.safetensors" if path.is_dir() else "there is no such file or folder"
    raise ValueError(f"{path}: {what}; give a checkpoint (.safetensors), or the folder of a training run")


def describe(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a model file, without its weights.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, "pt") as file:
            header = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        if zipfile.is_zipfile(path):
            raise ValueError(
                f"{path} is a file of torch.save, such as resume.pt, the state of a training; give a .safetensors file "
                "or the folder of a training run"
            ) from None
        raise ValueError(f"{path} is damaged or not a safetensors file: {_one_line(error)}") from None
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by ncafast.save; load its tensors with safetensors.torch.load_file")
    if header.get("format_version") != FORMAT_VERSION:
        found = header.get("format_version")
        raise ValueError(
            f"{path} has format version {found}, this ncafast reads {FORMAT_VERSION}; install a newer ncafast"
        )
    if header.get("model") not in _CLASSES:
        raise ValueError(f"{path} holds a {header.get('model')!r}, known are {', '.join(_CLASSES)}")
    if "config" not in header:
        raise ValueError(f"{path} is damaged: its metadata has no config")
    return header


def save_resume(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write training state (tensors, numbers, text, lists and dicts of these), atomically.

    Raises:
        OSError: the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    _write(Path(path), buffer.getvalue())


def load_resume(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save_resume` wrote, by torch's weights-only loader.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, or it holds something else than plain data; one line.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no training state at {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; correct that, or delete it to start anew") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError):  # torch's words do not help here
        raise ValueError(f"{path} is damaged or not a training state; delete it to start anew") from None
    if not isinstance(state, dict):
        raise ValueError(f"{path} is not a training state: it holds a {type(state).__name__}; delete it to start anew")
    return state


def _write(path: Path, data: bytes) -> None:
    """Write beside the file, flush to the disk, move over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _version() -> str:
    try:
        return version("ncafast")
    except PackageNotFoundError:
        return "unknown"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
