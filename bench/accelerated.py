"""`python bench/accelerated.py [WORD...]`: what accelerate gains on modules of public systems.

Parity comes first: state and every gradient of two steps, with the module's own draws, in float32 against the module's
own code in float64; the error of that code in float32 stands beside. Then forward and backward are timed in turns with
it. Words choose modules by parts of their names.

Where the input of a ReLU rounds to the other side of 0, gradients change by far more than rounding, in any float32
code. That depends on the state that is drawn, so errors are the smallest over a few states: a wrong rule is wrong for
each of them.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "helpers")]

from named_modules import NAMED, Named  # noqa: E402

import ncafast  # noqa: E402
from ncafast.acceleration.benchmark import Row, compare  # noqa: E402
from ncafast.acceleration.double import Double, double_copy  # noqa: E402

_BOUND = 1e-5  # of the largest number in a tensor
_STATES = 4


def main(words: list[str]) -> int:
    """Measure the modules whose names have one of the words in them; returns 1 if one has an error above the bound."""
    names = [name for name in NAMED if not words or any(word.lower() in name.lower() for word in words)]
    print(f"{torch.get_num_threads()} threads; speed-ups: medians, in brackets p20 over p80 to p80 over p20\n")
    print(f"{'module':<26}{'error':>9}{'its own':>9}{'forward':>26}{'forward + backward':>26}")
    wrong = [name for name in names if not measure(name, NAMED[name])]
    return 1 if wrong else 0


def measure(name: str, case: Named) -> bool:
    """Print one module's line; whether its error is within the bound."""
    torch.manual_seed(0)
    model = case.build(small=False)
    plain = copy.deepcopy(model)
    try:
        ncafast.accelerate(model, masks="torch", quiet=True)
    except ncafast.NotAccelerated as reason:
        print(f"{name:<26}not accelerated: {str(reason).splitlines()[1].split('. ', 1)[1]}", flush=True)
        return True
    states = [case.state(model, case.batch, case.grid) for _ in range(_STATES)]
    found, eager = (min(error(case, module, plain, x) for x in states) for module in (model, plain))
    errors = f"{name:<26}{found:>9.1e}{eager:>9.1e}"
    if found > _BOUND:
        print(f"{errors}  RED, not timed", flush=True)
        return False
    ncafast.accelerate(model, quiet=True)
    rows = compare(model, lambda: case.run(model, states[0], case.steps)).rows
    print(errors + "".join(f"{_ratio(row):>26}" for row in rows), flush=True)
    return True


def error(case: Named, model: nn.Module, plain: nn.Module, x: Tensor) -> float:
    """The largest error of state and gradients after two steps, relative to the largest number in each tensor."""
    with Double():
        want = _values(case, double_copy(plain), x.double())
    top = max(float(value.abs().max()) for value in want)
    errors = []
    for a, b in zip(_values(case, model, x), want, strict=True):
        scale = float(b.abs().max())
        errors.append(float((a - b).abs().max()) / (scale if scale > 1e-5 * top else top))
    return max(errors)


def _values(case: Named, model: nn.Module, x: Tensor) -> list[Tensor]:
    torch.manual_seed(1)
    leaf = x.clone().requires_grad_()
    state = case.run(model, leaf, 2)[0]
    learned = [p for p in model.parameters() if p.requires_grad]
    weights = torch.linspace(0.5, 1.5, state.numel()).view(state.shape)
    grads = torch.autograd.grad((state * weights).mean(), [leaf, *learned], allow_unused=True)
    return [state.detach(), *(torch.zeros(1) if grad is None else grad for grad in grads)]


def _ratio(row: Row) -> str:
    own, fused = row.times
    return f"{row.speedup:.1f}x ({own.p20 / fused.p80:.1f}-{own.p80 / fused.p20:.1f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
