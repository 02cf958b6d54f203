"""Training a texture automaton: the task's part of the loop in `ncafast.train`, which can be stopped at any moment.

The recipe is that of Niklasson et al., "Self-Organising Textures" (Distill 2021): a pool of states, one of a batch
begun anew every few steps, gradients normalised per tensor, and a loss on overflow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ncafast.losses.overflow import overflow
from ncafast.models import TextureNCA
from ncafast.tasks.base import Task, TaskJob, initialised
from ncafast.tasks.images import Reading
from ncafast.tasks.texture import pictures
from ncafast.tasks.texture.loss import make_loss
from ncafast.tasks.texture.measure import states_at
from ncafast.tasks.texture.options import TrainConfig
from ncafast.tasks.texture.recipe import COLOURS, Recipe, fresh, picture_of
from ncafast.tasks.texture.sample import checksum, read_sample
from ncafast.train import Pool, PoolJob, Report, StepContext
from ncafast.utils.seeds import generator, mix
from ncafast.viz import rgb
from ncafast.viz.views import View
from ncafast.viz.visual import Visual

_CHECKED_AFTER = (64, 256)  # steps from a fresh state after which an epoch is judged
_BURST = 0.1  # mean overflow of a state beyond which it is not trained on; a good one has none


class Texture(TaskJob, PoolJob):
    """States of a pool, judged by how near textures grown from nothing come to the sample."""

    model: TextureNCA
    panels = pictures.PANELS

    def __init__(self, task: Task[Any], config: TrainConfig) -> None:
        self.task, self.config, self.epoch_length = task, config, config.epoch_length
        device = torch.device(config.device)
        self.sample = read_sample(config.image, config.size, config.crop, Reading.of(config))
        self.distance = make_loss(self.sample, config.loss, config.weights).to(device)
        self.model = _new_model(config)
        self.pool = Pool.create(config.pool_size, lambda numbers: self._fresh(len(numbers)).to(device))

    def begin_step(self, at: StepContext) -> None:
        """States that have burst begin anew, since they teach nothing; and from time to time another one, so that
        starts are learnt too."""
        beyond = overflow(self.pool.take(at.numbers))
        count = int((beyond > _BURST).sum())
        if at.step % self.config.reseed_every == 0:
            count = max(count, 1)
        self.pool.put(self.pool.worst(at.numbers, beyond, count), self._fresh(count))

    def losses(self, batch: Tensor, at: StepContext) -> dict[str, Tensor]:
        state = self.model(batch, at.steps, **at.options)
        assert isinstance(state, Tensor)
        at.keep(state)
        distance = self.distance(picture_of(state), at.generator("directions"))
        return {"texture": distance.mean(), "overflow": self.config.overflow * overflow(state).mean()}

    def validate(self, report: Report) -> dict[str, Any]:
        """Grow textures from nothing and measure them, always with the same fire masks and directions."""
        side, seed = (self.config.grid, self.config.grid), self.config.seed
        distances, shown = [], [rgb(self.sample)]
        for state in states_at(self.model, side, _CHECKED_AFTER, mix("validate", seed), count=2):
            image = picture_of(state)
            distances.append(self.distance(image, generator("validate", seed)).mean().item())
            shown.append(rgb(image[0]))
        titles = ["sample", *(f"after {steps} steps" for steps in _CHECKED_AFTER)]
        name = f"epoch-{report.epoch:03d}.png"
        self.picture(report, report.folder.pictures / name, lambda: pictures.side_by_side(shown, titles))
        return {"val_loss": sum(distances) / len(distances)}

    def visuals(self) -> Iterable[Visual]:
        """A texture grown from nothing. It is no copy of the sample: all that is wrong pixel by pixel is overflow."""
        fresh, steps = self._fresh(1), _CHECKED_AFTER[0]
        side, seed = (self.config.grid, self.config.grid), mix("validate", self.config.seed)
        (state,) = (each[0].cpu() for each in states_at(self.model, side, (steps,), seed))
        beyond = (state.abs() - 1).clamp_min(0).sum(0)
        views = [
            View("input", rgb(picture_of(fresh))),
            View("truth", rgb(self.sample)),
            View("prediction", rgb(picture_of(state[None]))),
            View("error", beyond, "magma", (0.0, None), "overflow"),
        ]
        yield Visual("grown", views, state[COLOURS:], first=COLOURS, title=f"grown from nothing, step {steps}")

    def score(self, row: dict[str, Any]) -> float:
        return -float(row["val_loss"])

    @property
    def metadata(self) -> dict[str, str]:
        config = self.config
        recipe = Recipe(str(config.image.resolve()), config.size, config.crop, str(config.loss), config.value_range)
        return {"recipe": recipe.to_json()}

    def checksums(self) -> dict[str, dict[str, int]]:
        return {"train": {self.config.image.name: checksum(self.sample)}, "held_out": {}}

    def opening(self) -> str:
        config = self.config
        return f"texture of {config.image}, {config.size} x {config.size}, loss {config.loss}"

    def _fresh(self, count: int) -> Tensor:
        side = self.config.grid
        return fresh(count, self.config.state_channels, (side, side))


def _new_model(config: TrainConfig) -> TextureNCA:
    """An automaton that stands still at first."""
    model: TextureNCA = initialised(
        lambda: TextureNCA(config.state_channels, config.hidden, fire_rate=config.fire_rate), config.seed
    )
    last = model.mlp[2]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return model
