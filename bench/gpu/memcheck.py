"""Four rules forward and backward, to be run under a memory checker.

    compute-sanitizer --tool memcheck --kernel-name regex=ncafast python -m bench.gpu.memcheck [tiny]

They take every launch strategy between them, and grids that are no multiple of a tile.
"""

from __future__ import annotations

import os
import sys

import torch

from ncafast import Alive, Rule, rollout

BACKEND = os.environ.get("NCAFAST_BACKEND", "cuda")
RULES = {
    "batch norm": (Rule(norm="batch", padding="reflect", filter_bias=True), (33, 47), ("steps", "cooperative")),
    "alive": (Rule(alive=Alive(threshold=0.1)), (35, 29), ("steps", "cooperative", "cluster")),
    "circular": (Rule(12, hidden=96, num_filters=4, identity=False, padding="circular"), (37, 31), ("cluster",)),
    "3d": (Rule(8, hidden=24, ndim=3, num_filters=1, kernel_size=5), (9, 10, 7), ("steps",)),
}


def main(words: list[str]) -> int:
    """Run them."""
    device = torch.device("cpu" if words else "cuda")
    for name, (rule, size, ways) in RULES.items():
        for way in ways[:1] if words else ways:
            os.environ["NCAFAST_CUDA_ROLLOUT"] = way
            torch.manual_seed(0)
            shapes = rule.param_shapes().items()
            params = {key: (0.1 * torch.randn(shape, device=device)).requires_grad_() for key, shape in shapes}
            x = torch.randn(2, rule.channels, *size, device=device, requires_grad=True)
            rollout(x, rule, params, 2, seed=1, backend=BACKEND).square().mean().backward()
            finite = all(bool(p.grad is not None and p.grad.isfinite().all()) for p in (x, *params.values()))
            print(f"{name}, {way}: ran" + ("" if finite else ", and gradients are not finite"), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
