"""A task's functions are imported on first use: options and `--help` need none of the packages that the work does."""

from __future__ import annotations

import importlib
from typing import Any


def attribute(package: str, task: str, homes: dict[str, str], name: str) -> Any:
    """What a task's package gives for a name, for its `__getattr__`.

    Args:
        package: the task's package.
        task: the task in words, for messages.
        homes: the package's module of every name.
        name: the name that is asked for.

    Raises:
        AttributeError: there is no such name.
        ModuleNotFoundError: a package is missing; the message says how to install it.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{package}.{homes[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ncafast"):
            raise
        raise ModuleNotFoundError(
            f"the {task} task needs the package {error.name!r}; run: pip install 'ncafast[tasks]'", name=error.name
        ) from error
    return getattr(module, name)
