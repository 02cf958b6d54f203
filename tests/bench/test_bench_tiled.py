"""The benchmark's tiled provider gives the published state, from memory maps too."""

import numpy as np
import torch

from ncafast.bench import judged
from ncafast.bench.cases import SWEEPS
from ncafast.bench.modes import INFERENCE
from ncafast.bench.problem import Problem
from ncafast.bench.tiled import Tiled


def test_volumes_are_the_same_over_tiles():
    case = SWEEPS["volume"][0]
    problem = Problem(case, case.tiny(), torch.device("cpu"))
    provider = Tiled("cpu")
    assert provider.name in case.providers and provider.why_not(problem, INFERENCE) is None
    runner = provider.open(problem)
    assert judged.verdict(provider, runner, False).wrong is None
    runner.call(INFERENCE)(1)
    assert np.isfinite(runner._out).all() and (runner._out != runner._sources[1]).any()
