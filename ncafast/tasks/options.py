"""Options that mean the same in every task. The text under a field is its help text. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from ncafast.utils.outputs import beside


@dataclass(kw_only=True)
class Runtime:
    """How a trained model is run. Derived classes have the fields `model` and `output`."""

    seed: int = 0
    """Random seed of the fire masks."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:1. auto takes a GPU if there is one."""

    overwrite: bool = False
    """Also replace files that ncafast did not write."""

    def __post_init__(self) -> None:
        self.output = beside(self.output, self.model)  # type: ignore[attr-defined,has-type]
