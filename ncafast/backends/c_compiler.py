"""Whether Triton can build the launcher of its kernels, which it does with a C compiler when a kernel is first used."""

from __future__ import annotations

import functools
import os
import shutil
import sysconfig
from pathlib import Path


@functools.cache
def missing() -> str | None:
    """What Triton's launcher lacks on this machine and how to get it, or None. Looks where Triton does."""
    wanted = os.environ.get("CC")
    if wanted is not None and shutil.which(wanted) is None:
        return f"Triton needs a C compiler, and CC={wanted!r} is none that can be run: set CC to one"
    if wanted is None and not any(map(shutil.which, ("gcc", "clang"))):
        return "Triton needs a C compiler, and there is neither gcc nor clang: install gcc, or set CC to another one"
    header = _headers() / "Python.h"
    if not header.is_file():
        return f"Triton needs Python's C header {header}: install Python's development files (python3-dev)"
    return None


def _headers() -> Path:
    """Folder of Python's own C headers; Debian's scheme for local packages names another one."""
    scheme = sysconfig.get_default_scheme()
    return Path(sysconfig.get_path("include", "posix_prefix" if scheme == "posix_local" else scheme))
