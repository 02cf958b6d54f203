"""A user's class of modules, named on the command line as module:Class, and built from arguments in JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ncafast.missing import missing


def load_class(option: str, where: str) -> type[nn.Module]:
    """The class that "module:Class" names, importable from the present folder, or "FILE.py:Class".

    Args:
        option: for error messages, such as "--mine".
        where: its name.

    Raises:
        ValueError: there is none, or its module fails.
    """
    module, _, name = where.rpartition(":")
    if not (module and name):
        raise ValueError(f"{option} takes module:Class or FILE.py:Class, got {where!r}")
    file = Path(module) if module.endswith(".py") else None
    if file is not None and not file.is_file():
        raise ValueError(f"{option} {where}: {missing(file)}")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module) if file is None else _of_file(file), name)
    except (Exception, SystemExit) as error:  # a user's module may do anything
        raise ValueError(f"{option} {where}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"{option} {where}: is no class of modules; name a subclass of torch.nn.Module")
    return found


def _of_file(path: Path) -> ModuleType:
    """The module in a file, which finds the files beside it."""
    folder, name = str(path.resolve().parent), path.stem
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) != str(path.resolve()):
        name = f"_ncafast_{name}"  # another module is called so
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)
    sys.modules[name] = module  # as an import does: tracing looks up the source there
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


def json_object(option: str, text: str) -> dict[str, Any]:
    """Arguments of a constructor.

    Raises:
        ValueError: `text` is no JSON object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{option} takes a JSON object such as {{"hidden": 32}}: {error}') from None
    if not isinstance(found, dict):
        raise ValueError(f'{option} takes a JSON object such as {{"hidden": 32}}, got {text}')
    return found


def build(option: str, cls: type[nn.Module], arguments_option: str, arguments: str) -> nn.Module:
    """An instance.

    Raises:
        ValueError: the constructor does not take the arguments, or fails.
    """
    options = json_object(arguments_option, arguments)
    try:
        return cls(**options)
    except Exception as error:  # a user's code fails in ways that cannot be listed
        raise ValueError(f"{option} with {arguments_option} {arguments}: {type(error).__name__}: {error}") from error


def lengths(option: str, shape: str) -> list[int]:
    """The lengths in a shape such as "8,64,64,16": batch, channels and axes.

    Raises:
        ValueError: there are too few, or something else.
    """
    try:
        found = [int(length) for length in shape.split(",")]
    except ValueError:
        raise ValueError(
            f"{option} takes numbers like 8,64,64,16 or 2,16,32,32, of the batch, channels and axes; {shape!r} is none"
        ) from None
    if len(found) < 3 or min(found) < 1:
        raise ValueError(f"{option} {shape}: batch, channels and at least one axis are needed, each above 0")
    return found
