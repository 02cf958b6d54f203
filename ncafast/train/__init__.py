"""The training loop that every task uses, and that anyone may call, or leave for plain PyTorch or Lightning.

Five lines train an automaton, with checkpoints, curves and exact resume in the folder `run`::

    nca, images = NCA(channels=16), torch.rand(64, 16, 32, 32)
    def loss(model, batch, at):
        return (model(batch, at.steps, **at.options) - batch.flip(1)).square().mean()
    settings = Settings(output=Path("run"), epochs=20, steps=(8, 16), lr=2e-3, schedule="cosine")
    result = fit(nca, images, loss, settings)

`cross_validate` repeats that over folds and `search` over a grid of options, both resumable.

A task brings a `Job` (model, samples, losses, what to measure) to `run`; with a sample pool, a `PoolJob`. Give
`at.options` to every rollout: then fire masks depend on the seed, the training step and the sample's index in the whole
batch alone, so that a killed run goes on to the same weights and several processes train as one.
"""

import warnings
from typing import Any

from ncafast.train.context import Report, Result, StepContext, TrainingStopped
from ncafast.train.fitting import fit, run
from ncafast.train.job import Job
from ncafast.train.pool import Pool, PoolJob
from ncafast.train.search import cross_validate, search
from ncafast.train.split_files import Fold, make_folds, read_folds, write_folds
from ncafast.training_options import Settings

__all__ = [
    "Fold",
    "Job",
    "Pool",
    "PoolJob",
    "Report",
    "Result",
    "Settings",
    "StepContext",
    "TrainingStopped",
    "cross_validate",
    "fit",
    "make_folds",
    "read_folds",
    "run",
    "search",
    "write_folds",
]


def __getattr__(name: str) -> Any:
    if name != "Moment":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("ncafast.train.Moment is now called StepContext", FutureWarning, stacklevel=2)
    return StepContext
