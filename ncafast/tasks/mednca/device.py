"""Where to compute, from the option's text."""

from __future__ import annotations

import torch


def resolve_device(text: str) -> torch.device:
    """The device of "auto", "cpu", "cuda" or "cuda:N". Raises ValueError if this machine has no
    such device."""
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device={text!r} cannot be used on this machine; use auto or cpu") from error
    return device
