"""The CUDA kernels for this machine's GPU alone, in place, without the extension for the CPU.

    python -m bench.gpu.build SCRATCH

Each source is optimised on several threads, which leaves the kernels' registers as they are. A C++ extension that is
there already is kept.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

THREADS = max((os.cpu_count() or 1) // 4, 1)  # by count: about five large sources, compiled at once
_PYBIND11 = """
import importlib.util, os
def get_include():
    return os.path.join(os.path.dirname(importlib.util.find_spec("torch").origin), "include")
"""
_CHECK = """
from ncafast import native
print(native.cuda_reason() or "ncafast._CUDA is there")
raise SystemExit(native.load_cuda() is None)
"""


def main(words: list[str]) -> int:
    """Build; returns 1 where there are no CUDA kernels afterwards."""
    environment = dict(os.environ)
    if not Path("ncafast", f"_C{sysconfig.get_config_var('EXT_SUFFIX')}").exists():
        environment["NCAFAST_CPU"] = "0"
    split = f"-split-compile={THREADS}"
    environment["NVCC_APPEND_FLAGS"] = f"{os.environ.get('NVCC_APPEND_FLAGS', '')} {split} -Xptxas={split}".strip()
    if importlib.util.find_spec("pybind11") is None:  # torch has a copy of its headers
        folder = Path(words[0], "pybind11")
        folder.mkdir(parents=True, exist_ok=True)
        folder.joinpath("pybind11.py").write_text(_PYBIND11)
        environment["PYTHONPATH"] = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    code = subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], env=environment).returncode
    return code or subprocess.run([sys.executable, "-c", _CHECK]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
