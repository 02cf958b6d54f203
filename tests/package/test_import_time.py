"""What an import loads, and a mark of ours against PyTorch's own."""

from __future__ import annotations

import subprocess
import sys

import torch

from ncafast.compiling import constant_result


def test_import_leaves_out_what_is_slow():
    """torch.compile takes as long to import as all of PyTorch; without it an import costs a sixth more than torch."""
    slow = {"torch._dynamo", "sympy", "scipy", "matplotlib"}

    def loaded(name):
        code = f"import sys, {name}; print(*sys.modules)"
        return set(
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        )

    assert loaded("ncafast") & slow <= loaded("torch") & slow


def test_the_mark_of_a_constant_result_is_that_of_torch():
    def ours():
        return 1

    def theirs():
        return 1

    assert constant_result(ours) is ours
    torch.compiler.assume_constant_result(theirs)
    assert vars(ours) == vars(theirs)
