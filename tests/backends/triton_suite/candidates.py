"""Whether tile sizes that are tried differ in more than their name: compiles each kernel with all of them, for sm_90.

    python tests/backends/triton_suite/candidates.py RULE [KERNEL ...]

prints a line of JSON per kernel: how many sizes are tried, and how many different programs they make.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import torch
import triton
from compiled import RULES, launches, source
from triton.backends.compiler import GPUTarget

from ncafast.backends.triton_kernels import chosen, sizes
from ncafast.backends.triton_kernels.sizes import compiled, options

_TARGET = GPUTarget("cuda", 90, 32)


def program(kernel: Any, given: dict[str, Any], tiles: sizes.Tiles) -> str:
    """The kernel's PTX, without what names places in the source."""
    shape = options(tiles) if "TILE" in given else {"BLOCK": tiles.block} | compiled(tiles)
    src, settings = source(kernel, given | shape, _TARGET)
    text = triton.compile(src, target=_TARGET, options=settings).asm["ptx"]
    return re.sub(r"//.*|\.(loc|file|section)\b.*", "", text)


def main() -> None:
    """Prints a line of JSON per kernel."""
    (name, *kernels) = sys.argv[1:]
    rule, size = RULES[name]
    found = {kernel.__name__: (kernel, given) for kernel, given in launches(rule, size, 90, torch.float32)}
    chosen.capability = lambda device: 9
    x = torch.zeros(1, rule.channels, *size)
    for kernel, choice in chosen.choices(rule, x, "tf32").items():
        if kernel in found and (not kernels or kernel in kernels):
            tried = [choice.tiles, *sizes.around(choice.tiles)]
            programs = {program(*found[kernel], tiles) for tiles in tried}
            print(json.dumps({"kernel": kernel, "tried": len(tried), "programs": len(programs)}), flush=True)


if __name__ == "__main__":
    main()
