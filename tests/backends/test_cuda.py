"""The CUDA backend without a GPU: its kernels run on the CPU by the shim of cuda_shim, and what the backend says.

The suite runs in processes of its own, since the shim's module has to be named before ncafast is imported.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from cuda_shim.build import built, compiler, environment

from ncafast import Rule, backends, info, native
from ncafast.backends import cuda as backend

TESTS = Path(__file__).parent
SUITES = ("gpu_suite.py", *(f"cuda_{part}_suite.py" for part in ("rollout", "backward", "layers", "half")))

needs_shim = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(compiler()) is None, reason="the shim needs Linux and GCC"
)


# What only compares numbers of kernels that other tests run on the same grids: minutes under AddressSanitizer. So does
# the second type of 16 bits, and the precision that splits the operands of another in registers.
NUMBERS = ("two_runs", "its_steps_one_after", "parameters_in_half", "do_not_overflow", "parameters_are_fixed")
NUMBERS += ("is_rounded_once", "give_the_same_bits", "masks_are_those", "whatever_learns", "dtype1", "tf32x3")


def run_suite(module: Path, *words: str, **variables: str) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NCAFAST_")}
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        + [*words, *(str(TESTS / name) for name in SUITES)],
        env=kept | {"OMP_NUM_THREADS": "1", "NCAFAST_BACKEND": "cuda", "NCAFAST_CUDA_SHIM": str(module)} | variables,
        cwd=TESTS.parents[1],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-3000:]
    assert " passed" in found.stdout.splitlines()[-1]


@needs_shim
def test_kernels_agree_with_float64():
    """As if on a GPU without clusters and dependent launches, in plain memory and in many rules."""
    ways = {"NCAFAST_SHIM_CAPABILITY": "80", "NCAFAST_CUDA_ROLLOUT": "cooperative"}
    run_suite(built(), **ways, NCAFAST_RANDOM_RULES="24")


@needs_shim
def test_kernels_keep_within_their_memory():
    """As if on a GPU that has them, under AddressSanitizer; new memory is full of NaN."""
    ways = {"NCAFAST_SHIM_CAPABILITY": "90", "NCAFAST_CUDA_ROLLOUT": "cluster"}
    leave_out = ("-k", " and ".join(f"not {part}" for part in NUMBERS))
    run_suite(built("address"), *leave_out, **ways, **environment("address"), NCAFAST_RANDOM_RULES="4")


def test_info_says_that_nobody_has_measured_it(capsys):
    assert info.main([]) == 0
    assert backend.UNVERIFIED is not None  # until bench/results holds rows from a GPU
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("cuda ")][-1:]
    assert "not yet measured by us; checked on your GPU at first use" in line


def test_reasons(monkeypatch):
    rule, x = Rule(), torch.zeros(1, 16, 4, 4)
    assert "this backend runs on GPUs" in backend.can_run(rule, x)
    monkeypatch.setattr(native, "_cuda_module", None)
    monkeypatch.setattr(native, "build_info", lambda: {"cuda": {"built": False, "reason": "no nvcc was found"}})
    with pytest.raises(RuntimeError, match="'cuda' cannot run this: ncafast._CUDA was not built: no nvcc was found"):
        backends.choose(rule, x, "cuda")
    monkeypatch.setattr(native, "build_info", lambda: {"cuda": {"built": True}})
    monkeypatch.setattr(native, "_cuda_import_error", "libstdc++ is too old")
    assert backend.unavailable() == "ncafast._CUDA cannot be imported: libstdc++ is too old"


class Gpus:
    """GPUs that are not there, each with what the extension says of it."""

    def __init__(self, monkeypatch, *reasons: str | None, current: int = 0) -> None:
        self.reasons, self.asked, self.entered = reasons, [], []
        monkeypatch.setattr(native, "_cuda_module", self)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(reasons))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
        monkeypatch.setattr(torch.cuda, "device", lambda index: self.entered.append(index) or nullcontext())

    def refuse_device(self, device: int) -> str | None:
        assert self.entered[-1] == device  # the extension leaves it current, so torch has to put it back
        self.asked.append(device)
        return self.reasons[device]


def test_the_driver_and_the_build_are_asked_for_every_gpu_until_one_will_do(monkeypatch):
    gpus = Gpus(monkeypatch, None, "not built for it", None, current=1)
    assert backend.unavailable() is None
    assert gpus.asked == [1, 0]


def test_the_reason_of_the_current_gpu_is_given_where_none_will_do(monkeypatch):
    gpus = Gpus(monkeypatch, "too old", "not built for it", current=1)
    assert backend.unavailable() == "not built for it"
    assert gpus.asked == [1, 0]


def test_rules_that_no_kernel_is_made_for(monkeypatch):
    """The kernels' own answer is passed on; what needs no kernel to know is said before."""
    monkeypatch.setattr(torch.Tensor, "device", property(lambda x: torch.device("cuda")), raising=False)

    class Module:
        @staticmethod
        def refuse(rule, batch, size, state, precision, device):
            return f"{rule['channels']} channels are too many"

    monkeypatch.setattr(native, "_cuda_module", Module)
    monkeypatch.setattr(torch.cuda, "device", lambda index: nullcontext())
    backend._asked.cache_clear()
    assert backend.can_run(Rule(channels=300), torch.empty(1).expand(1, 300, 4, 4)) == "300 channels are too many"
    assert re.search("norm='layer' is not fused", backend.can_run(Rule(norm="layer"), torch.empty(1, 16, 4, 4)))
    large = torch.empty(1).expand(1, 16, 2**16, 2**15)
    assert re.search("a sample has about 2\\*\\*31 cells or more", backend.can_run(Rule(), large))
    backend._asked.cache_clear()
