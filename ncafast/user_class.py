"""A user's class of modules, named on the command line as module:Class, and built from arguments in JSON."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from torch import nn


def load_class(option: str, where: str) -> type[nn.Module]:
    """The class that "module:Class" names, importable from the present folder.

    Args:
        option: for error messages, such as "--mine".
        where: its name.

    Raises:
        ValueError: there is none, or its module fails.
    """
    module, _, name = where.partition(":")
    if not name:
        raise ValueError(f"{option} takes module:Class, got {where!r}")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # a user's module may do anything
        raise ValueError(f"{option} {where}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"{option} {where}: is no class of modules; name a subclass of torch.nn.Module")
    return found


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
    except ValueError as error:
        raise ValueError(f"{option} takes numbers like 8,64,64,16: {error}") from None
    if len(found) < 3 or min(found) < 1:
        raise ValueError(f"{option} {shape}: batch, channels and at least one axis are needed, each above 0")
    return found
