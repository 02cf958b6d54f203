"""The child process of a trial: kernels against the reference backend in float64, on this GPU.

    python -m ncafast.backends.trial REQUEST ANSWER

REQUEST is a JSON file: backend, rules (texts of `Rule.to_json`), device, precision, dtype of the states; optionally
sizes, the grids to run.
ANSWER is written when the trial is done: state, reason, fused_ms, reference_ms, as `verdicts.Verdict`. A file STARTED
beside ANSWER says that the GPU could be opened. A separate process, so that a crash or a hang of a kernel does not
reach the user's program.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncafast import backends, files
from ncafast.backends import trial_cases
from ncafast.backends.cuda import LAUNCH_STRATEGIES
from ncafast.backends.plan import Call, Plan
from ncafast.backends.precision import precision, use_precision
from ncafast.half import HALF
from ncafast.rule import Rule

STEPS = 3
# Largest error allowed, relative to the largest value: rounding of products, of which each output sums up to some 100.
BOUNDS = {"ieee": 3e-6, "tf32x3": 1e-5, "tf32": 2e-2, "bf16": 1e-1}
_ULPS = 2  # in half precision: a state that is rounded every step, and to the other side where sums lie at a tie
_SEED, _FIRST_STEP, _FIRST_SAMPLE = 11 - 2**63, 5, 2
_ROUNDS, _TIMED_STEPS = 7, 8

Results = dict[str, Tensor]


class Wrong(Exception):
    """The backend did not pass; the message says where and how."""


def main(words: list[str]) -> int:
    """Run the request and write the answer."""
    request = json.loads(Path(words[0]).read_text(encoding="utf-8"))
    answer = Path(words[1])
    try:
        device = torch.device(request["device"])
        torch.zeros(1, device=device)  # a full or exclusive GPU says so here
    except RuntimeError as error:
        return _write(answer, {"state": "unchecked", "reason": f"the GPU cannot be used: {_line(error)}"})
    if request["backend"] not in backends.names():
        return _write(answer, {"state": "unchecked", "reason": "the check's own process does not find this backend"})
    answer.with_name("STARTED").touch()
    sizes = [tuple(size) for size in request.get("sizes", [])] or None
    try:
        with use_precision(request["precision"]):
            dtype = getattr(torch, request["dtype"])
            rules = [
                rule for rule in map(Rule.from_json, request["rules"]) if _runs(request["backend"], rule, device, dtype)
            ]
            if not rules:
                return _write(answer, {"state": "unchecked", "reason": "no rule of the check runs on this GPU"})
            for rule in rules:
                examine(request["backend"], rule, device, request["precision"], dtype, sizes)
            times = _race(request["backend"], rules, device, dtype) if device.type == "cuda" else (None, None)
    except Wrong as error:
        return _write(answer, {"state": "failed", "reason": _line(error)})
    except torch.OutOfMemoryError as error:
        return _write(answer, {"state": "unchecked", "reason": f"too little GPU memory is free: {_line(error)}"})
    except Exception as error:  # a backend that raises has failed, whatever it raises
        return _write(answer, {"state": "failed", "reason": f"{type(error).__name__}: {_line(error)}"})
    return _write(answer, _judged(*times))


def _runs(backend: str, rule: Rule, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the backend takes the rule here. A GPU with little shared memory refuses wide ones, which is no fault."""
    x = torch.zeros(1, 1, *trial_cases.odd_size(rule), device=device, dtype=dtype)
    return backends.get(backend).can_run(rule, x, precision()) is None


def examine(
    backend: str,
    rule: Rule,
    device: torch.device,
    rounding: str,
    dtype: torch.dtype,
    sizes: list[trial_cases.Size] | None = None,
) -> None:
    """Every check of one rule, on a small and on a large grid, or on those given.

    Raises:
        Wrong: the backend differs from the reference, or from itself.
    """
    sizes = sizes or [trial_cases.odd_size(rule), trial_cases.large_size(rule, _multiprocessors(device))]
    small = max(BOUNDS[rounding], _ULPS * torch.finfo(dtype).eps if dtype in HALF else 0.0)
    _check_masks(backend, rule, sizes[0], device, dtype)
    launches = LAUNCH_STRATEGIES if backend == "cuda" else ("",)
    for size in sizes:
        inputs = trial_cases.make_inputs(rule, 2, size, STEPS, device).of(dtype, torch.float32)
        exact = _run("reference", rule, inputs.of(torch.float64, torch.float64))
        plain = _run("reference", rule, inputs)
        for launch in launches:
            with _launched(launch):
                what = f"{_name(rule)} on {'x'.join(map(str, size))}" + (f", launch {launch}" if launch else "")
                with _poisoned():
                    first, again = _run(backend, rule, inputs), _run(backend, rule, inputs)
                _compare(what, first, plain, exact, small)
                different = [name for name in first if not torch.equal(first[name], again[name])]
                if different:
                    raise Wrong(f"{what}: two runs differ in {', '.join(different)}")
    inputs = trial_cases.make_inputs(rule, 2, sizes[0], STEPS, device).of(dtype, torch.float32)
    double = inputs.of(torch.float64, torch.float64)
    found, plain, exact = (
        _run(name, rule, tensors, every=2)
        for name, tensors in ((backend, inputs), ("reference", inputs), ("reference", double))
    )
    _compare(f"{_name(rule)}, every second state kept", found, plain, exact, small)


def _run(backend: str, rule: Rule, inputs: trial_cases.Inputs, every: int = 1) -> Results:
    """Kept states, the last one, and the gradients of a random sum over them, by name."""
    module = backends.get(backend)
    plan = Plan(STEPS, _FIRST_STEP, _FIRST_SAMPLE, every, STEPS // every, precision())
    names, params = list(inputs.params), list(inputs.params.values())
    seed = torch.tensor([_SEED], dtype=torch.int64, device=inputs.x.device)
    call = Call(rule, inputs.x, params, inputs.extra, None, seed, plan)
    done = module.forward(call)
    needs = [True, inputs.extra is not None, *("running" not in name for name in names)]
    grad_x, grad_extra, grads = module.backward(
        call, done.history, done.tape, inputs.weight[0], inputs.weight[: plan.kept], needs
    )
    gradients = {"x": grad_x, "extra": grad_extra, **dict(zip(names, grads, strict=True))}
    found = {f"the gradient of {name}": value for name, value in gradients.items() if value is not None}
    return {"the last state": done.out, "the kept states": done.history, **found}


def _check_masks(backend: str, rule: Rule, size: trial_cases.Size, device: torch.device, dtype: torch.dtype) -> None:
    """The cells that change in one step must be those of the reference, bit for bit.

    In half precision a change may be rounded away: there a difference counts where it is more than an ulp.
    """
    inputs = trial_cases.make_inputs(rule, 2, size, 1, device).of(dtype, torch.float32)
    plan = Plan(1, _FIRST_STEP, _FIRST_SAMPLE, 0, 0, precision())
    seed = torch.tensor([_SEED], dtype=torch.int64, device=device)
    params = list(inputs.params.values())
    ours, theirs = (
        backends.get(name).forward(Call(rule, inputs.x, params, inputs.extra, None, seed, plan)).out
        for name in (backend, "reference")
    )
    different = (ours != inputs.x).any(1) != (theirs != inputs.x).any(1)
    if dtype in HALF:
        ulp = torch.finfo(dtype).eps * torch.maximum(theirs.abs(), inputs.x.abs())
        different &= ((ours - theirs).abs() > ulp).any(1)
    wrong = int(different.sum())
    if wrong:
        raise Wrong(f"{_name(rule)}: {wrong} of {different.numel()} cells have another fire mask than the reference")


def _compare(what: str, ours: Results, plain: Results, exact: Results, small: float) -> None:
    """Error at most twice the reference's in the same dtype, plus `small` of the tensor's scale."""
    largest = max(float(value.abs().max()) for value in exact.values())
    for name, value in exact.items():
        scale = float(value.abs().max())
        scale = largest if scale < 1e-9 * largest else scale  # zero but for rounding, as biases before a norm
        error, theirs = (float((found[name].double() - value).abs().max()) for found in (ours, plain))
        bound = 2 * theirs + small * scale + 1e-7
        if not error <= bound:  # also where it is NaN
            raise Wrong(f"{what}: {name} is off by {error:.2g}, allowed is {bound:.2g}")


def _race(backend: str, rules: list[Rule], device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Milliseconds of forward and backward of up to three rules, on the backend and on the reference, interleaved."""
    totals = [0.0, 0.0]
    for rule in rules[:3]:
        batch, size = trial_cases.timed_size(rule)
        inputs = trial_cases.make_inputs(rule, batch, size, 1, device).of(dtype, torch.float32)
        runs = [_training(name, rule, inputs) for name in (backend, "reference")]
        for run in runs:
            for _ in range(3):  # compiles, allocates, records graphs
                run()
        times: list[list[float]] = [[], []]
        for _ in range(_ROUNDS):
            for taken, run in zip(times, runs, strict=True):
                torch.cuda.synchronize(device)
                start = time.perf_counter()
                run()
                torch.cuda.synchronize(device)
                taken.append(1e3 * (time.perf_counter() - start))
        totals = [total + statistics.median(taken) for total, taken in zip(totals, times, strict=True)]
    return totals[0], totals[1]


def _training(backend: str, rule: Rule, inputs: trial_cases.Inputs) -> Callable[[], None]:
    module, params = backends.get(backend), list(inputs.params.values())
    seed = torch.ones(1, dtype=torch.int64, device=inputs.x.device)
    plan = Plan(_TIMED_STEPS, 0, 0, 1, _TIMED_STEPS - 1, precision())
    call = Call(rule, inputs.x, params, inputs.extra, None, seed, plan)
    needs = [True, False, *("running" not in name for name in inputs.params)]
    grad_out = torch.ones_like(inputs.x)

    def run() -> None:
        done = module.forward(call)
        module.backward(call, done.history, done.tape, grad_out, None, needs)

    return run


def _judged(fused: float | None, reference: float | None) -> dict[str, Any]:
    slower = fused is not None and reference is not None and fused >= reference
    reason = "the reference backend is as fast" if slower else ""
    return {"state": "slower" if slower else "passed", "reason": reason, "fused_ms": fused, "reference_ms": reference}


@contextmanager
def _poisoned() -> Iterator[None]:
    """New memory is full of NaN, so that a cell which no kernel writes shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # what fill_uninitialized_memory depends on
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def _launched(name: str) -> Iterator[None]:
    """Request this launch strategy of CUDA rollouts; it is used if rule and grid support it."""
    before = os.environ.get("NCAFAST_CUDA_ROLLOUT")
    if name:
        os.environ["NCAFAST_CUDA_ROLLOUT"] = name
    try:
        yield
    finally:
        os.environ.pop("NCAFAST_CUDA_ROLLOUT", None)
        if before is not None:
            os.environ["NCAFAST_CUDA_ROLLOUT"] = before


def _multiprocessors(device: torch.device) -> int:
    """The GPU's; where kernels run on the CPU, for tests, as few as the shim has."""
    if device.type != "cuda":
        return 3
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _name(rule: Rule) -> str:
    """The rule's fields that differ from the default."""
    mine, plain = json.loads(rule.to_json()), json.loads(Rule().to_json())
    different = {key: value for key, value in mine.items() if value != plain.get(key)}
    return "Rule(" + ", ".join(f"{key}={value}" for key, value in different.items()) + ")"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _write(answer: Path, content: dict[str, Any]) -> int:
    full = {"state": "failed", "reason": "", "fused_ms": None, "reference_ms": None} | content
    assert all(value is None or not isinstance(value, float) or math.isfinite(value) for value in full.values())
    files.write_text(answer, json.dumps(full))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
