"""Checkpoints: a model with its weights in one safetensors file, and training state in a file of its own.

A model file holds only tensors and text: class name, constructor arguments and rule stand in the metadata, so `load`
builds the module and `ncafast info FILE` can describe it without loading weights. Nothing is unpickled but torch's
weights-only format. Files are written under a temporary name and renamed, so a kill leaves the old file or the new one.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ncafast import files
from ncafast.missing import missing, why_missing
from ncafast.rebuild import CLASSES, build, config_of, knows, misfit, obstacle, shapes, unwrapped
from ncafast.tensors import packed, stored, tie, ties
from ncafast.versions import version

FORMAT = "ncafast"
FORMAT_VERSION = "1"
_MODELS = "best.safetensors", "last.safetensors"  # of a training run, the better one first
# Metadata that `save` and `save_tensors` write themselves.
_OWN = ("format", "format_version", "ncafast", "model", "config", "tied", "bare", "bare_reason")
_NO_MODELS = (
    ((".nii", ".nii.gz"), "a NIfTI image"),
    ((".dcm", ".dicom"), "a DICOM file"),
    ((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"), "a picture"),
    ((".json", ".csv", ".txt"), "a text file"),
)
_OF_TORCH = (".pth", ".pt", ".ckpt", ".bin", ".pkl")  # endings that people give to files of torch.save
_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError)


def save(path: str | os.PathLike[str], module: nn.Module, **metadata: str) -> None:
    """Write a module to a safetensors file, atomically.

    What `load` would not build again as it is (another head, pruned or parametrized layers, a swapped norm) is written
    as bare tensors, so that nothing is lost, with a warning that says why and how to read it.

    Args:
        path: the file, NAME.safetensors; its folder is made if missing. A name that looks like a file of
            torch.save, such as NAME.pth, is taken, with a warning.
        module: an `NCA` or one of `ncafast.models`, also inside torch.compile's, DataParallel's or
            DistributedDataParallel's wrapper.
        **metadata: further text to keep, such as task="mednca"; `describe` returns it.

    Raises:
        TypeError: a module of another class, or metadata that is not text.
        ValueError: metadata under a name that the file needs itself, or weights that safetensors cannot hold.
        OSError: the file cannot be written.
    """
    module = unwrapped(module)
    name = type(module).__name__
    if not knows(module):
        kind = f"{type(module).__module__}.{name}" if name in CLASSES else name
        raise TypeError(
            f"cannot save a {kind}: known are {', '.join(CLASSES)}; for others use "
            "torch.save(module.state_dict(), path), or ncafast.checkpoint.save_tensors"
        )
    for key, value in metadata.items():
        if key in _OWN:
            raise ValueError(f"metadata {key}={value!r} is not allowed: the names {', '.join(_OWN)} are taken")
        if not isinstance(value, str):
            raise TypeError(f"metadata {key}={value!r} must be text, got {type(value).__name__}")
    reason = obstacle(module)
    if reason is not None:
        save_tensors(path, module, partial=False, **metadata)
        warnings.warn(f"{path}: {bare(name, reason, path)}", stacklevel=2)
        return
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, "ncafast": version(), "model": name}
    header |= {"config": config_of(module)} | metadata
    tied = ties(module)
    if tied:
        header["tied"] = json.dumps(tied)
    files.write_bytes(Path(path), packed(stored(module)[0], header))
    if Path(path).suffix in _OF_TORCH:
        warnings.warn(
            f"{path} holds safetensors, as every file of ncafast.save: ncafast.load reads it, and torch.load does not; "
            "name it .safetensors",
            stacklevel=2,
        )


def save_tensors(path: str | os.PathLike[str], module: nn.Module, *, partial: bool = False, **metadata: str) -> None:
    """Write the weights of any module, atomically and without what `load` needs to build it again;
    `safetensors.torch.load_file` reads them, for the `load_state_dict` of a module that was built alike.

    Args:
        path: the file; its folder is made if missing.
        module: any module.
        partial: leave out what is no plain tensor (extra state, packed or sparse weights) in place of raising.
        **metadata: text to keep.

    Raises:
        ValueError: weights without numbers, or that safetensors cannot hold.
        OSError: the file cannot be written.
    """
    module = unwrapped(module)
    tensors, left_out = stored(module)
    if left_out and not partial:
        raise ValueError(
            f"{path}: {', '.join(left_out[:4])} cannot be written as safetensors, since they are not plain tensors; "
            "use torch.save(module.state_dict(), path)"
        )
    reasons = {"bare": type(module).__name__, "bare_reason": obstacle(module) or "they were asked for"}
    files.write_bytes(Path(path), packed(tensors, reasons | metadata))


def bare(name: str, reason: str, path: str | os.PathLike[str]) -> str:
    """Why a file holds bare tensors, and how to read it."""
    return (
        f"holds the bare tensors of a {name}: {reason}. ncafast.load cannot read it; build the module as it was "
        f"saved, then module.load_state_dict(safetensors.torch.load_file({str(path)!r}))"
    )


def load(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> nn.Module:
    """Build the module that `save` wrote, with its weights in the dtype they had, in evaluation mode.

    Parameters that were one and the same are so again.

    Args:
        path: the file.
        device: where the module goes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: corrupt, not written by ncafast, by a newer version, or not matching its own metadata; one line.
    """
    header = describe(path)
    try:
        config = json.loads(header["config"])
        module = build(header["model"], config)
        with safe_open(path, "pt") as file:
            # Clones, since the file's own memory changes when someone writes into the file.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - not a dict
        take(module, tensors, config)
        tie(module, json.loads(header.get("tied", "{}")))
    except (*_DAMAGE, SafetensorError) as error:
        raise ValueError(f"{path} does not fit its own description: {_one_line(error)}") from None
    return module.to(device).eval()


def take(module: nn.Module, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Give the module that `config` builds these tensors in their own dtypes.

    Raises:
        ValueError: other keys, shapes or kinds of numbers.
    """
    wanted = module.state_dict()
    reason = misfit(shapes(tensors), shapes(wanted), config)
    if reason is not None:
        raise ValueError(reason)
    for key, target in wanted.items():
        found = tensors[key]
        if found.dtype != target.dtype and not (found.is_floating_point() and target.is_floating_point()):
            raise ValueError(f"{key} holds {found.dtype}, and {target.dtype} is needed")
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
    for name in _MODELS:
        if (path / name).is_file():
            return path / name
    if (path / "results.csv").is_file():
        raise ValueError(f"{path}: holds several trainings, see its results.csv; give the folder of one of them")
    what = "holds no best.safetensors" if path.is_dir() else missing(path, "file or folder")
    raise ValueError(f"{path}: {what}; give a checkpoint (.safetensors), or the folder of a training run")


def describe(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a model file, without its weights.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: {why_missing(Path(path))}")
    try:
        with safe_open(path, "pt") as file:
            header = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        if zipfile.is_zipfile(path):
            raise ValueError(
                f"{path} is a file of torch.save, such as resume.pt, the state of a training; give a .safetensors file "
                "or the folder of a training run"
            ) from None
        if what := _other_kind(Path(path)):
            raise ValueError(
                f"{path} is {what}, not a model; give a checkpoint (.safetensors), or the folder of a training run"
            ) from None
        raise ValueError(
            f"{path} is corrupt or not a safetensors file: {_one_line(error)}{_instead(Path(path))}"
        ) from None
    if "bare" in header:
        raise ValueError(f"{path} {bare(header['bare'], header.get('bare_reason', ''), path)}")
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{path} was not written by ncafast.save; `ncafast import` makes a model file from weights of a published "
            "model, and safetensors.torch.load_file reads any tensors"
        )
    if header.get("format_version") != FORMAT_VERSION:
        found = header.get("format_version")
        raise ValueError(
            f"{path} has format version {found}, this ncafast reads {FORMAT_VERSION}; install a newer ncafast"
        )
    if header.get("model") not in CLASSES:
        raise ValueError(f"{path} holds a {header.get('model')!r}, known are {', '.join(CLASSES)}")
    if "config" not in header:
        raise ValueError(f"{path} is corrupt: its metadata has no config")
    return header


def save_resume(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write training state (tensors, numbers, text, lists and dicts of these), atomically.

    Raises:
        OSError: the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    files.write_bytes(Path(path), buffer.getvalue())


def load_resume(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save_resume` wrote, by torch's weights-only loader.

    Raises:
        FileNotFoundError: no such file.
        ValueError: corrupt, or it holds something else than plain data; one line.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no training state at {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; correct that, or {anew(path)}") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError):  # torch's words do not help here
        raise ValueError(f"{path} is corrupt or not a training state; {anew(path)}") from None
    if not isinstance(state, dict):
        raise ValueError(f"{path} is not a training state: it holds a {type(state).__name__}; {anew(path)}")
    return state


def anew(path: str | os.PathLike[str]) -> str:
    """What to do about a training state that cannot be used, and what becomes of the models beside it."""
    models = [name for name in _MODELS if Path(path).with_name(name).is_file()]
    kept = f"; {' and '.join(models)} can still be used, until the new run replaces them" if models else ""
    return f"delete it to start anew{kept}"


def _instead(path: Path) -> str:
    """The other model of a run whose best one cannot be read, as the end of an error."""
    best, last = _MODELS
    there = path.name == best and path.with_name(last).is_file()
    return f"; {last} beside it may be whole, so give that" if there else ""


def _other_kind(path: Path) -> str:
    """What a file is that is no model, by its ending; nothing where that does not say it."""
    if not path.stat().st_size:
        return "an empty file"
    name = path.name.lower()
    return next((what for endings, what in _NO_MODELS if name.endswith(endings)), "")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
