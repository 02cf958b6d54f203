"""The option that limits the memory of a command. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class MemoryLimit:
    """What every command takes that may need much memory; `ncafast.free_memory.limited_by_options` keeps to it."""

    memory_limit: str | None = None
    """The most memory that the command may take in all, such as 6GB or 512MiB, on a GPU of the GPU's. What needs more
    is refused before it starts, with a line that says what would fit. Left out: what is free."""
