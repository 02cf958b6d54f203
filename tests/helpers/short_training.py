"""A training of a few steps: states, settings, an automaton and two losses."""

from __future__ import annotations

from pathlib import Path

import torch

from ncafast import NCA
from ncafast.train import Settings

STATES = torch.rand(10, 6, 5, 7, generator=torch.Generator().manual_seed(3))


def settings(out: Path, **options: object) -> Settings:
    """2 x 3 steps, the last batch of an epoch smaller than the others."""
    plain = {"epochs": 2, "batch_size": 4, "steps": (2, 4), "threads": 1, "tensorboard": False, "progress": False}
    return Settings(output=out, **(plain | options))  # type: ignore[arg-type]


def nca(**options: object) -> NCA:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return NCA(6, 8, zero_init=False, **options)  # type: ignore[arg-type]


def loss(model, batch, at):
    """Also draws from torch's generator, as dropout would."""
    out = model(batch, at.steps, **at.options)
    return (out - batch.flip(1) + 0.1 * torch.rand(())).square().mean()


def quiet_loss(model, batch, at):
    return (model(batch, at.steps, **at.options) - batch.flip(1)).square().mean()
