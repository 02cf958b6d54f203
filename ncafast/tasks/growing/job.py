"""Training a growing automaton: the task's part of the loop in `ncafast.train`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from ncafast.models import GrowingNCA
from ncafast.tasks.base import Task, TaskJob, initialised
from ncafast.tasks.growing import pictures
from ncafast.tasks.growing.healing import grow, heal, run_states
from ncafast.tasks.growing.options import TrainConfig
from ncafast.tasks.growing.states import pixel_loss, seed_states
from ncafast.tasks.growing.target import Target
from ncafast.train import Report, StepContext
from ncafast.train.pool import Pool, PoolJob
from ncafast.utils.seeds import mix
from ncafast.viz.views import View
from ncafast.viz.visual import Visual

_EPOCH = 100  # training steps
_RUNS = 4  # that an epoch's measures are means of


class Growing(TaskJob):
    """What all regimes share: the model, the loss, and how an epoch is judged."""

    model: GrowingNCA
    panels = pictures.PANELS

    def __init__(self, task: Task[Any], config: TrainConfig, target: Target) -> None:
        self.task, self.config, self.image = task, config, target
        self.target = target.tensor()  # [4, H, W]
        self.longest = config.steps[1]  # steps of the longest training rollout
        # GrowingNCA's own rate is the probability that a cell does not update.
        rate, hidden = 1.0 - config.fire_rate, config.hidden
        self.model = initialised(lambda: GrowingNCA(config.state_channels, rate, hidden_size=hidden), config.seed)

    @property
    def metadata(self) -> dict[str, str]:
        return {
            "target": self.image.to_text(),
            "padding": str(self.image.padding),
            "steps": str(self.longest),
            "regime": self.config.regime,
        }

    def checksums(self) -> dict[str, dict[str, int]]:
        facts = f"{self.image.pixels.shape} {self.image.padding} ".encode() + self.image.pixels.tobytes()
        return {"train": {"target": int.from_bytes(hashlib.sha256(facts).digest()[:6], "big")}}

    def opening(self) -> str:
        (height, width), grid = self.image.pixels.shape[:2], self.target.shape
        return f"growing {width} x {height} cells on a grid of {grid[2]} x {grid[1]}"

    def seeds(self, count: int) -> Tensor:
        """[count, C, H, W]."""
        return seed_states(count, self.config.state_channels, *self.target.shape[-2:])

    def losses(self, batch: Tensor, at: StepContext) -> Tensor:
        after = self.model(batch.movedim(1, -1), at.steps, **at.options).movedim(-1, 1)
        at.keep(after)
        return self.judge(after).mean()

    def judge(self, states: Tensor) -> Tensor:
        return pixel_loss(states, self.target.to(states.device))

    def validate(self, report: Report) -> dict[str, Any]:
        """Losses after growth, after three times as long, and after healing for twice as long; the last two where the
        regime trains for them."""
        self.model.eval()
        longest, seed = self.longest, self.config.seed
        grown, losses = grow(self.model, self.target, steps=3 * longest, runs=_RUNS, seed=seed)
        row = {"val_grown": losses[longest], "val_later": losses[-1]}
        (course,) = heal(self.model, grown, self.target, cuts=("right",), steps=2 * longest, seed=seed)
        row["val_healed"] = course.losses[-1]
        path, shown = report.folder.pictures / f"epoch-{report.epoch:04d}.png", "target, grown, cut, healed"
        self.picture(report, path, lambda: pictures.row([self.target, *course.states]), shown)
        return row

    def visuals(self) -> Iterable[Visual]:
        """The image as it has grown after the longest training rollout."""
        seed = self.seeds(1).to(next(self.model.parameters()).device)
        grown = run_states(self.model, seed, self.longest, mix("shown", self.config.seed), self.longest)[0, 0].cpu()
        error = (grown[:4] - self.target).square().mean(0)
        views = [
            View("input", pictures.on_page(seed[0].cpu())),
            View("truth", pictures.on_page(self.target)),
            View("prediction", pictures.on_page(grown)),
            View("error", error, "magma", (0.0, None), "squared"),
        ]
        yield Visual("grown", views, grown[4:], first=4, title=f"grown from the seed, step {self.longest}")

    def score(self, row: dict[str, Any]) -> float:
        wanted = {"growing": ("val_grown",), "persistent": ("val_grown", "val_later")}
        names = wanted.get(self.config.regime, ("val_grown", "val_later", "val_healed"))
        return -sum(row[name] for name in names)


class FromSeed(Growing):
    """Every sample starts from the seed."""

    def steps_per_epoch(self, batch: int) -> int:
        return _EPOCH

    def plan(self, epoch: int, batch: int, seed: int) -> Sequence[Sequence[int]]:
        return [range(batch)] * _EPOCH

    def load(self, at: StepContext) -> Tensor:
        return self.seeds(len(at.micro_batch))


class FromPool(Growing, PoolJob):
    """Samples go on from a pool; the worst of each batch starts anew, and some of the others may be damaged."""

    epoch_length = _EPOCH

    def __init__(self, task: Task[Any], config: TrainConfig, target: Target) -> None:
        super().__init__(task, config, target)
        self.pool = Pool.create(config.pool_size, lambda numbers: self.seeds(len(numbers)))
        self.damaged = config.damage if config.regime == "regenerating" else 0
        self.damage_kind, self.damage_size = config.damage_kind, config.damage_size
        self.damage_after = config.damage_after

    def fresh(self, numbers: Sequence[int], at: StepContext) -> Tensor:
        return self.seeds(len(numbers))
