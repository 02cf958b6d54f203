"""The benchmark's processes give the published state, and scale over work that is what the table says."""

import multiprocessing

import torch

from ncafast.bench import judged
from ncafast.bench.cases import RANKS, SWEEPS
from ncafast.bench.modes import INFERENCE
from ncafast.bench.problem import Problem
from ncafast.bench.ranks import Ranks

CASES = {case.name: case for case in SWEEPS["volume"]}


def test_two_processes_give_the_published_state():
    case = CASES["ranks-64-bn"]
    problem = Problem(case, case.tiny(), torch.device("cpu"))
    provider = Ranks("cpu", 2)
    assert provider.name in case.providers and provider.why_not(problem, INFERENCE) is None
    runner = provider.open(problem)
    assert judged.verdict(provider, runner, False).wrong is None
    assert all(seconds > 0 for seconds in runner.call(INFERENCE)(1))
    assert runner.note.startswith("2 processes of 1 thread on ")
    runner.close()
    assert not multiprocessing.active_children()


def test_the_work_of_each_process_is_the_same_along_the_diagonal():
    for norm in ("", "-bn"):
        cells = [CASES[f"ranks-{64 * count}{norm}"].sizes["full"].cells / count for count in RANKS]
        assert cells == [64 * 128 * 128] * 3
