"""What torch.compile is told about functions, without importing it: that takes as long as all of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def constant_result(function: Function) -> Function:
    """`torch.compiler.assume_constant_result`: traces call the function once and take its result as a constant."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
