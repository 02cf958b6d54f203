"""The versions of ncafast and of other packages, and what ncafast's build recorded. Standard library only."""

from __future__ import annotations

import functools
import json
from importlib import metadata
from pathlib import Path
from typing import Any

NOT_INSTALLED = "not installed"


def version() -> str:
    """ncafast's version: of the installed package, else of the last build in place, else "unknown"."""
    found = package_version("ncafast")
    return str(build_info().get("version", "unknown")) if found == NOT_INSTALLED else found


def package_version(name: str) -> str:
    """The version of an installed package, or "not installed"."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


@functools.cache  # asked for at every choice of a backend
def build_info() -> dict[str, Any]:
    """Return what the build recorded: keys version, python, platform, cpu, cuda.

    `cpu` and `cuda` are dicts with `built` and, where that is False, `reason`. Where there is no
    record, the only key is `reason`.
    """
    try:
        info = json.loads(Path(__file__).with_name("_build.json").read_text())
    except (OSError, ValueError) as error:
        return {"reason": f"no build record ({error}); the package was not installed by pip"}
    return info if isinstance(info, dict) else {"reason": "the build record is corrupt"}
