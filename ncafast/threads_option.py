"""The option for the number of CPU threads. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class Threads:
    """What every command takes that computes much; see `ncafast.utils.devices.threads`."""

    threads: int | None = None
    """CPU threads. Left out: torch's choice, or in a continued training the number it began with."""
