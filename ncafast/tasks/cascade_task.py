"""What tasks share that learn a cascade from pairs of colour images and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from ncafast.models import CascadeNCA
from ncafast.tasks.base import Task, Trained
from ncafast.tasks.cascades import Array, Reader
from ncafast.tasks.image_pairs import Pairs, trainable
from ncafast.tasks.images import Reading
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import refused
from ncafast.utils.outputs import check_apart

S = TypeVar("S", bound=Reader[Any])


class CascadeTask(Task[S]):
    """A task on pairs of images and targets.

    Attributes:
        targets: name of the option that says where the targets are.
    """

    unit, models, hold = "images", (CascadeNCA,), 1.5
    evaluation_files = ("scores.csv", "uncertainty.json", "worst.png", "middle.png", "best.png")
    targets: ClassVar[str]

    @staticmethod
    def find_pairs(options: Any) -> Pairs:
        """The pairs that options name. Raises ValueError for options that name none."""
        raise NotImplementedError

    def check_use(self, options: Any) -> None:
        """As `Task.check_use`."""
        if hasattr(options, "data"):
            self.check_apart(options)

    def check_apart(self, options: Any) -> None:
        """Raise ValueError where results would be written among images or targets."""
        for name in ("data", "images", self.targets):
            check_apart("--output", options.output, f"--{name}", getattr(options, name))

    def resolved(self, options: Any) -> Any:
        """As `Task.resolved`."""
        return replace(options, device=str(resolve_device(options.device)))

    def samples(self, options: Any) -> tuple[Sequence[str], None]:
        """As `Task.samples`."""
        return trainable(self.find_pairs(options), options.data), None

    def steps_of(self, trained: Trained[S], options: Any) -> tuple[Array, list[Tensor]]:
        """An image as the model sees it, and the outputs after every few steps of each level, for a film."""
        reader, fewest = trained.spec, min(trained.spec.model.steps)
        if options.every > fewest:
            raise refused("every", options.every, f"a level of the model takes {fewest} steps; give no more")
        reading = Reading(reader.recipe.value_range, options.max_pixels)
        pixels = reader.recipe.shrunk(reader.recipe.read_image(options.input, reading))
        reading.notes.say()
        return pixels, reader.outputs.steps(pixels, seed=options.seed, every=options.every)
