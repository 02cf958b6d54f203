"""What a file of torch.save would make, read from the opcodes of its pickle; nothing in it runs. No PyTorch needed."""

from __future__ import annotations

import os
import pickletools
import zipfile
from collections.abc import Iterable
from typing import IO, Any, NamedTuple

_HARMLESS = ("torch", "collections")  # packages of what a dict of tensors names
_STATE_DICT = "collections.OrderedDict"
_NO_KEYS = ("_metadata",)  # of every state_dict, beside its tensors
_OLD_PICKLES = 4  # of which the last holds the object, in files that are no zip archives
_NO_ACTS = (
    "PROTO",
    "FRAME",
    "MARK",
    "PUT",
    "BINPUT",
    "LONG_BINPUT",
    "MEMOIZE",
)  # what stands between a key and a value


class Content(NamedTuple):
    """What a pickle is of, as far as it says so."""

    top: str
    """Class of the object, such as "models.UNet"; empty where it is a dict, or unknown."""
    classes: tuple[str, ...]
    """Those of other packages than PyTorch."""
    weights: str
    """The first key whose value is a state_dict; empty where there is none."""


def content(path: str | os.PathLike[str]) -> Content:
    """Look into a file of torch.save, or any pickle; of a damaged one nothing is known."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                return _content(pickletools.genops(archive.read(name)))
        with open(path, "rb") as file:
            return _content(_last(file))
    except (ValueError, LookupError, OSError, StopIteration, zipfile.BadZipFile):
        return Content("", (), "")


def _last(file: IO[bytes]) -> list[Any]:
    """Of a pickle alone its operations, of several those of the object that torch.save was given."""
    size, found = os.fstat(file.fileno()).st_size, []
    for _ in range(_OLD_PICKLES):
        found = list(pickletools.genops(file))
        if file.tell() == size:
            break
    return found


def _content(operations: Iterable[Any]) -> Content:
    top, weights, before = None, "", None
    classes: dict[str, None] = {}
    for code, value, _ in operations:
        if code.name in _NO_ACTS:
            continue
        name = value.replace(" ", ".", 1) if code.name == "GLOBAL" else ""
        if top is None and code.name in ("GLOBAL", "EMPTY_DICT"):  # old files first say that it is a module
            top = name
        if name and name.partition(".")[0] not in _HARMLESS:
            classes[name] = None
        if name == _STATE_DICT and isinstance(before, str) and before not in _NO_KEYS:
            weights = weights or before
        before = value if code.name in ("BINUNICODE", "SHORT_BINUNICODE", "UNICODE") else None
    return Content("" if top in (None, _STATE_DICT) else top, tuple(classes), weights)
