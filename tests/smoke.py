"""Whether an installed ncafast works: its compiled part against the reference backend. Needs the core packages only.

    python tests/smoke.py                # of a wheel or a build with a compiler
    python tests/smoke.py --pure-python  # where there was none

Exits with 1 and one line where something is wrong. Run it from another folder than the checkout's, or that is imported.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

import ncafast
from ncafast import backends, native

RULES = {
    "2-D, learned filters, batch norm": ncafast.Rule(channels=12, hidden=40, norm="batch", fire_rate=0.5),
    "3-D, circular padding": ncafast.Rule(ndim=3, channels=9, hidden=24, padding="circular", fire_rate=0.7),
}


def results(rule: ncafast.Rule, dtype: torch.dtype, backend: str) -> dict[str, Tensor]:
    """The last state of a rollout and its gradient, that of state and parameters as one vector, in float64.

    One vector, since a bias before batch norm has the gradient 0 and nothing but rounding to compare.
    """
    random = torch.Generator().manual_seed(0)

    def drawn(shape: tuple[int, ...]) -> Tensor:
        return (0.2 * torch.randn(shape, generator=random, dtype=torch.float64)).to(dtype).requires_grad_()

    x = drawn((2, rule.channels, *(13, 11, 7)[: rule.ndim]))
    params = {name: drawn(shape) for name, shape in rule.param_shapes().items()}
    with backends.use(backend):
        y = ncafast.rollout(x, rule, params, 5, seed=3)
        grads = torch.autograd.grad(y.square().sum(), [x, *params.values()])
    return {"state": y.detach().double(), "gradient": torch.cat([grad.double().flatten() for grad in grads])}


def compare(name: str, rule: ncafast.Rule) -> None:
    """The cpu backend may err twice as much as PyTorch in the same dtype; both against float64."""
    exact = results(rule, torch.float64, "reference")
    plain, ours = (results(rule, torch.float32, backend) for backend in ("reference", "cpu"))
    for what, want in exact.items():
        error, allowed = (ours[what] - want).norm(), 2 * (plain[what] - want).norm()
        if not error <= allowed:
            sys.exit(f"{name}: the {what} of the cpu backend is off by {error:.3g}, allowed are {allowed:.3g}")
        print(f"ok: {name}: {what} off by {error:.3g}, allowed are {allowed:.3g}")


def check_openmp() -> None:
    """Two OpenMP runtimes in one process would each have their threads. (Linux.)"""
    maps = Path("/proc/self/maps")
    if not native.build_info()["cpu"]["openmp"]:
        print("ok: without OpenMP, on one thread")
    elif maps.exists():
        loaded = {line.split()[-1] for line in maps.read_text().splitlines() if "gomp" in line}
        if len(loaded) != 1:
            sys.exit(f"one OpenMP runtime was expected, these are loaded: {', '.join(sorted(loaded)) or 'none'}")
        print(f"ok: one OpenMP runtime, {loaded.pop()}")


def main(words: list[str]) -> None:
    """Check, and say what was."""
    print(f"ncafast {ncafast.__version__} in {Path(ncafast.__file__).parent}, torch {torch.__version__}")
    if words == ["--pure-python"]:
        if native.load() is not None:
            sys.exit("ncafast._C is there, though it was not to be")
        state = results(RULES["3-D, circular padding"], torch.float32, "reference")["state"]
        print(f"ok: a rollout without ncafast._C, {tuple(state.shape)}: {native.reason()}")
        return
    if native.load() is None:
        sys.exit(str(native.reason()))
    for name, rule in RULES.items():
        compare(name, rule)
    check_openmp()


if __name__ == "__main__":
    main(sys.argv[1:])
