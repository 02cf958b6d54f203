"""The sample pool: states that training takes, lets run on and puts back, so that an automaton learns to last.

Mordvintsev et al., "Growing Neural Cellular Automata" (Distill 2020): the worst sample of every batch is replaced by a
fresh state, and some are damaged. Everything random is a function of the seed and the training step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ncafast.train.context import StepContext
from ncafast.train.damage import damage
from ncafast.train.job import Job
from ncafast.utils.option_checks import refused
from ncafast.utils.seeds import generator


class Pool:
    """States to train on again and again, kept on the device they come on."""

    def __init__(self, states: Tensor) -> None:
        """Take states [size, C, *S]; see `create`."""
        if states.dim() < 3 or not len(states):
            raise ValueError(f"a pool needs states [size, C, *S] with at least one of them, got {list(states.shape)}")
        self.states = states.detach().clone()

    @classmethod
    def create(cls, size: int, fresh: Callable[[Sequence[int]], Tensor]) -> Pool:
        """A pool of fresh states.

        Args:
            size: how many, at least 1.
            fresh: `fresh(numbers)` gives the states of these indices, [len(numbers), C, *S].

        Raises:
            ValueError: a size below 1.
        """
        if size < 1:
            raise ValueError(f"pool size={size} is not allowed; give a whole number from 1")
        return cls(fresh(range(size)))

    def __len__(self) -> int:
        return len(self.states)

    def draw(self, count: int, *seed: int | str) -> list[int]:
        """`count` different indices, drawn by the seed's parts.

        Raises:
            ValueError: the pool has fewer.
        """
        if count > len(self):
            raise ValueError(f"a batch of {count} does not fit a pool of {len(self)}; give a larger pool")
        return torch.randperm(len(self), generator=generator("pool", *seed))[:count].tolist()

    def take(self, numbers: Sequence[int]) -> Tensor:
        """Copies of the states at these indices, [len(numbers), C, *S]."""
        return self.states[list(numbers)]

    def put(self, numbers: Sequence[int], states: Tensor) -> None:
        """Put states [len(numbers), C, *S] at these indices.

        Raises:
            ValueError: another shape.
        """
        expected = (len(numbers), *self.states.shape[1:])
        if states.shape != expected:
            raise ValueError(f"states has shape {list(states.shape)}, the pool needs {list(expected)}")
        self.states[list(numbers)] = states.detach().to(self.states)

    def worst(self, numbers: Sequence[int], losses: Tensor, count: int = 1) -> list[int]:
        """The `count` of `numbers` whose loss is highest, worst first; NaN counts as worst of all."""
        order = losses.detach().cpu().nan_to_num(nan=float("inf")).argsort(descending=True, stable=True)
        return [numbers[index] for index in order[:count].tolist()]

    def best(self, numbers: Sequence[int], losses: Tensor, count: int = 1) -> list[int]:
        """The `count` of `numbers` whose loss is lowest, best first."""
        ranked = self.worst(numbers, losses, len(numbers))
        return ranked[::-1][:count]

    def damage(
        self, numbers: Sequence[int], kind: Literal["circles", "rectangles"], random: torch.Generator, **sizes: Any
    ) -> None:
        """Cut a hole into each of these states; see `ncafast.train.damage.damage`."""
        if numbers:
            self.put(numbers, damage(self.take(numbers), kind, random, **sizes))

    def state(self) -> dict[str, Tensor]:
        """What a stopped run goes on with."""
        return {"states": self.states}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave. Raises ValueError if it is of another pool."""
        found = state["states"]
        if found.shape != self.states.shape:
            raise ValueError(f"the pool is {list(found.shape)}, and {list(self.states.shape)} is needed")
        self.states = found.to(self.states)


class PoolJob(Job):
    """A job whose samples come from a pool and go back into it.

    Before every training step the worst `replaced` samples of the batch become fresh states and the best `damaged`
    ones get a hole, both judged by `judge` on the states as they lie in the pool. Subclasses set `model`, `pool`, and
    write `fresh` and `losses`, which hands the final states to `at.keep`; an epoch is `epoch_length` training steps.
    """

    pool: Pool
    epoch_length: int = 100
    replaced: int = 1
    damaged: int = 0
    damage_kind: Literal["circles", "rectangles"] = "circles"
    damage_size: tuple[float, float] = (0.1, 0.4)
    """Smallest and largest hole; see `ncafast.train.damage.damage`."""
    damage_after: int = 0
    """Training steps before the first damage."""

    def fresh(self, numbers: Sequence[int], at: StepContext) -> Tensor:
        """States [len(numbers), C, *S] to begin with at these indices of the pool."""
        raise NotImplementedError

    def judge(self, states: Tensor) -> Tensor:
        """The loss of each state [B, C, *S] by itself, [B]; needed if any are replaced or damaged."""
        raise NotImplementedError

    def steps_per_epoch(self, batch: int) -> int:
        """`epoch_length`. Raises ValueError if a batch, over all processes, does not fit the pool or the damage."""
        if batch > len(self.pool):
            raise ValueError(f"a batch of {batch} does not fit a pool of {len(self.pool)}; give a larger pool")
        if self.damaged and self.replaced + self.damaged > batch:
            most = max(0, batch - self.replaced)
            allowed = f"of a batch of {batch}, {self.replaced} begin anew; give a whole number from 0 to {most}"
            raise refused("damage", self.damaged, f"{allowed}, or a larger batch_size")
        return self.epoch_length

    def plan(self, epoch: int, batch: int, seed: int) -> Sequence[Sequence[int]]:
        """Indices of the pool for each training step, different ones within a step."""
        return [self.pool.draw(batch, seed, epoch, step) for step in range(self.epoch_length)]

    def begin_step(self, at: StepContext) -> None:
        """Replace the worst, damage the best."""
        hurt = self.damaged if at.step >= self.damage_after else 0
        if not self.replaced and not hurt:
            return
        with torch.no_grad():
            device = next(self.model.parameters()).device
            losses = self.judge(self.pool.take(at.numbers).to(device))
        worst = self.pool.worst(at.numbers, losses, self.replaced)
        best = [number for number in self.pool.best(at.numbers, losses, hurt) if number not in worst]
        if worst:
            self.pool.put(worst, self.fresh(worst, at))
        least, most = self.damage_size
        self.pool.damage(best, self.damage_kind, at.generator("damage"), least=least, most=most)

    def load(self, at: StepContext) -> Tensor:
        """The states of the micro-batch."""
        return self.pool.take(at.micro_batch)

    def end_step(self, at: StepContext, kept: Tensor | None) -> None:
        """Put the final states back."""
        if kept is None:
            raise ValueError(f"{type(self).__name__}.losses must give its final states to at.keep(states)")
        self.pool.put(at.numbers, kept)

    def state(self) -> dict[str, Any]:
        """The pool."""
        return self.pool.state()

    def load_state(self, state: dict[str, Any]) -> None:
        """The pool."""
        self.pool.load_state(state)
