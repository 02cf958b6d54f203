"""A task's functions are imported on first use: options and `--help` need none of the packages that the work does."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from ncafast.tasks import TASKS


def attributes(package: str, **homes: str) -> Callable[[str], Any]:
    """The `__getattr__` of a task's package.

    Args:
        package: the task's package.
        **homes: the module of every name, in the package or, with a dot in it, anywhere.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name]
        return getattr(imported(home if "." in home else f"{package}.{home}", package.rpartition(".")[2]), name)

    return find


_COMMANDS = {
    "train": "Train as configured, or continue the run in the folder `options.output`.",
    "evaluate": "Score a trained model, print the table, and write scores and pictures to the folder `options.output`.",
    "predict": "Run a trained model on `options.input`, a file or a folder of such, and write to `options.output`.",
    "animate": "Write an animation to the file `options.output`, and return its path.",
}


def command(name: str, task: str) -> Callable[[Any], Any]:
    """A command as a function of a task's package; see `run`."""

    def function(options: Any) -> Any:
        return run(name, task, options)

    function.__name__ = function.__qualname__ = name
    function.__module__ = TASKS[task]
    function.__doc__ = f"""{_COMMANDS[name]}

    Args:
        options: see `ncafast {name} {task} --help`.

    Raises:
        ValueError: options or files that cannot be used; one line that says what to do.
        ModuleNotFoundError: a package is missing; the message says how to install it.
    """
    return function


def run(command: str, task: str, options: Any) -> Any:
    """A command of `ncafast.tasks.base` on a task of `ncafast.tasks.TASKS`.

    Raises:
        ModuleNotFoundError: a package is missing; the message says how to install it.
    """
    return getattr(imported("ncafast.tasks.base", task), command)(find(task), options)


def find(task: str) -> Any:
    """The `Task` object of a name in `ncafast.tasks.TASKS`."""
    return imported(f"{TASKS[task]}.task", task).TASK


def options_of(task: str) -> Any:
    """The module with the dataclasses of a task's options, which needs no further package."""
    return importlib.import_module(f"{TASKS[task]}.options")


def imported(module: str, task: str, extra: str = "tasks") -> Any:
    """A module. Raises ModuleNotFoundError that says how to install the package that the task misses."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ncafast"):
            raise
        raise ModuleNotFoundError(
            f"the {task} task needs the package {error.name!r}; run: pip install 'ncafast[{extra}]'", name=error.name
        ) from error
