"""Options that mean the same in every task. The text under a field is its help text. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ncafast.utils.outputs import beside
from ncafast.utils.renamed import Renamed


@dataclass(kw_only=True)
class Progress:
    """What every command takes that has a bar to show."""

    progress: bool = True
    """Show progress bars."""


@dataclass
class Runtime(Renamed):
    """Which trained model is run, and how.

    Derived classes have a field `output`. If it begins with `<model>/`, the results lie beside the model, and a number
    is added where that is taken; the help says so.
    """

    model: Path
    """Checkpoint (.safetensors), or the folder of a training run (its best checkpoint is taken)."""

    seed: int = field(default=0, kw_only=True)
    """Random seed of the fire masks."""

    device: str = field(default="auto", kw_only=True)
    """auto, cpu, cuda or cuda:1. auto takes a GPU if there is one."""

    overwrite: bool = field(default=False, kw_only=True)
    """Also replace files that ncafast did not write."""

    def __post_init__(self) -> None:
        self.output = beside(self.output, self.model)  # type: ignore[attr-defined,has-type]
