"""Why a module is not accelerated: one reason in words, with the line of the user's code."""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.fx import Node

LIBRARIES = (str(Path(__file__).parent), str(Path(torch.__file__).parent))
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in [^\n]*\n?\s*([^\n]*)')


class NotAccelerated(ValueError):
    """A module that cannot be accelerated; the message says why."""


class Misread(NotAccelerated):
    """A graph of which the shape of the state was not understood, after some of its operations were."""

    def __init__(self, reason: str, operations: int) -> None:
        super().__init__(reason)
        self.operations = operations


def at_node(node: Node) -> str:
    """The operation and the line of the user's code that made it."""
    return f"`{operation(node)}`{at_line(node)}"


def at_line(node: Node) -> str:
    """The line of the user's code that made a node."""
    return _line(str(node.meta.get("stack_trace") or ""))


def counted(steps: int) -> str:
    """A number of steps in words."""
    return "1 step" if steps == 1 else f"{steps} steps"


def arguments(node: Node) -> tuple[Any, ...]:
    """A node's positional arguments: nodes, numbers, lists."""
    return node.args


def operation(node: Node) -> str:
    """The operation's name in PyTorch, such as conv2d's `convolution`."""
    packet = getattr(node.target, "overloadpacket", None)
    return packet.__name__ if packet is not None else str(getattr(node.target, "__name__", node.target))


def at_exception(error: BaseException) -> str:
    """An exception in one line, with the last line of the user's code that it came through."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= 160 else f"{text[:157]}..."
    return f"{type(error).__name__}: {text}{_user_line(error.__traceback__)}"


def _line(trace: str) -> str:
    """Where the innermost frame outside PyTorch and this package is."""
    for file, line, code in reversed(_FRAME.findall(trace)):
        if not file.startswith(LIBRARIES):
            return f" at {Path(file).name}:{line}" + (f" ({code.strip()})" if code.strip() else "")
    return ""


def _user_line(trace: TracebackType | None) -> str:
    found = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(LIBRARIES):
            found = f" at {Path(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found
