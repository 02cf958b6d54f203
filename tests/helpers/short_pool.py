"""A training from a pool of states that hardly changes."""

from __future__ import annotations

from pathlib import Path

import torch

from ncafast import NCA
from ncafast.train import Pool, PoolJob, Settings


class Still(PoolJob):
    """Learns to hold still; counts what happens to its pool."""

    epoch_length = 4
    replaced, damaged, damage_after = 1, 2, 2

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.model = NCA(5, 8, zero_init=False)
        self.pool = Pool(torch.rand(9, 5, 6, 7, generator=torch.Generator().manual_seed(0)))
        self.log: list[tuple] = []

    def fresh(self, numbers, at):
        return torch.rand(len(numbers), 5, 6, 7, generator=at.generator("fresh"))

    def judge(self, states):
        return states.square().mean((1, 2, 3))

    def begin_step(self, at):
        before = self.pool.states.clone()
        super().begin_step(at)
        changed = (self.pool.states != before).flatten(1).any(1).nonzero().flatten().tolist()
        losses = dict(zip(at.numbers, self.judge(before[list(at.numbers)]).tolist(), strict=True))
        self.log.append((at.step, changed, sorted(at.numbers, key=losses.__getitem__)))

    def losses(self, batch, at):
        x = self.model(batch, at.steps, **at.options)
        at.keep(x)
        return (x - batch).square().mean()


def pool_settings(out: Path, **options: object) -> Settings:
    plain = {"epochs": 2, "batch_size": 4, "steps": (1, 3), "threads": 1, "tensorboard": False, "progress": False}
    return Settings(output=out, **(plain | options))  # type: ignore[arg-type]
