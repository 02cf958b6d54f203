"""The folder that keeps what was measured on the user's machine: tile sizes, results of trials."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """NCAFAST_CACHE if that is set, else `ncafast` in the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
    chosen = os.environ.get("NCAFAST_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "ncafast")
