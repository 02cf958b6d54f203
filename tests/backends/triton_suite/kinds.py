"""Kinds that no kernel has, in a kernel of all that choose by one: a line of JSON for each, with what was said.

    python tests/backends/triton_suite/kinds.py

runs it in the interpreter if TRITON_INTERPRET=1, and else compiles it for a GPU that need not be there.
"""

from __future__ import annotations

import json
import os

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ncafast.backends.triton_kernels import mlp, perception
from ncafast.backends.triton_kernels.bundles import Activation

KNOWN = {"ACT": "identity", "SLOPE_OF": "identity", "PADDING": "zeros", "PRECISION": "tf32"}


@triton.jit
def chooses(out, ACT: tl.constexpr, SLOPE_OF: tl.constexpr, PADDING: tl.constexpr, PRECISION: tl.constexpr):
    """Of 16 numbers: activation, derivative, padding and a product."""
    i = tl.arange(0, 16)
    z = mlp.activate(i * 1.0 - 5.0, ACT) + mlp.slope_at(i * 1.0, SLOPE_OF)
    place, _ = perception.along(i - 1, 12, PADDING)
    nothing = tl.zeros([16, 16], tl.float32)
    tl.store(out + i, z + place + tl.sum(mlp.product(nothing, nothing, nothing, PRECISION), 0))


def said(kinds: dict[str, str]) -> str:
    """All that an error says, its causes too; "" if there is none."""
    given = {name: Activation(kind, 0.1) if name in ("ACT", "SLOPE_OF") else kind for name, kind in kinds.items()}
    try:
        if os.environ.get("TRITON_INTERPRET") == "1":
            chooses[(1,)](torch.zeros(16), **given)
        else:
            signature = {"out": "*fp32", **dict.fromkeys(given, "constexpr")}
            constants = {(place,): value for place, value in enumerate(given.values(), 1)}
            triton.compile(ASTSource(chooses, signature, constants), target=GPUTarget("cuda", 90, 32))
    except Exception as error:
        causes = [error]
        while (cause := causes[-1].__cause__) is not None:
            causes.append(cause)
        return "\n".join(map(str, causes))
    return ""


if __name__ == "__main__":
    for name in (None, *KNOWN):
        print(json.dumps([name, said(KNOWN if name is None else KNOWN | {name: "planted"})]))
