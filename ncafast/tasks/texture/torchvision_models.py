"""torchvision, where it can be imported."""

from __future__ import annotations

from typing import Any


def torchvision_models(what: str, instead: str) -> Any:
    """The module `torchvision.models`. Raises ModuleNotFoundError that says who needs it and what to do."""
    try:
        import torchvision.models
    except (ImportError, RuntimeError, OSError) as error:  # a torchvision built for another torch fails in many ways
        reason = " ".join(str(error).split())[:100]
        raise ModuleNotFoundError(
            f"{what} needs torchvision ({reason}); run: pip install 'ncafast[tasks]' (beside the CPU-only PyTorch, "
            f"install torchvision from the same index as PyTorch), or {instead}",
            name="torchvision",
        ) from error
    return torchvision.models
