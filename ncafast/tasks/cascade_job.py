"""What training a cascade on colour images comes to, whatever it learns: pairs in memory, varied, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from ncafast.models import CascadeNCA
from ncafast.tasks.base import TaskJob, initialised
from ncafast.tasks.cascade_options import CascadeConfig
from ncafast.tasks.cascades import Array, ImageRecipe, Outputs, new_cascade
from ncafast.tasks.colours import tinted
from ncafast.tasks.image_pairs import Pair, Pairs, divide
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.planes import augment
from ncafast.tasks.skipping import each_usable
from ncafast.train import Settings, StepContext
from ncafast.training_options import settings_of
from ncafast.utils.progress import note, say
from ncafast.viz.views import View
from ncafast.viz.visual import Visual


class Sample(Protocol):
    """An image in memory with what is to be learned of it."""

    @property
    def name(self) -> str:
        """Of its own."""

    @property
    def pixels(self) -> Array:
        """[h, w, 3] uint8."""

    @property
    def checksum(self) -> int:
        """Of the pixels and the target."""


S = TypeVar("S", bound=Sample)
Sides = tuple[tuple[S, ...], tuple[S, ...], tuple[str, ...]]


def load_sides(config: CascadeConfig, found: Pairs, reading: Reading, read: Callable[[Pair], S]) -> Sides[S]:
    """Read all pairs that may be trained on and divide them: by lists, as the CSV list says, or at random.

    Args:
        config: the options of the training, with `data`.
        found: the pairs.
        reading: whose notes are said.
        read: reads a pair; an ImageError leaves it out.

    Returns:
        Training and held-out samples, and a line for each file that was left out.

    Raises:
        ValueError: nothing is left to train on.
    """
    for line in found.skipped:
        say(f"skipped: {line}")
    usable = [pair for pair in found.pairs if pair.part != "test"]
    if not usable:
        raise ValueError(f"{getattr(config, 'data', None)}: calls all images test images; give some to train on")
    samples, bad = each_usable(usable, read, ImageError, "reading images", config.progress)
    reading.notes.say()
    blank = [sample.name for sample in samples if (sample.pixels == sample.pixels[:1, :1]).all()]
    if blank:
        note(f"{len(blank)} of {len(samples)} images are of one colour, {blank[0]} first; are these files right?")
    by_name = {sample.name: sample for sample in samples}
    names = divide(config, list(by_name), {pair.name for pair in usable if pair.part == "val"})
    train, held_out = (tuple(by_name[name] for name in side) for side in names)
    return train, held_out, (*found.skipped, *(reason for _, reason in bad))


class CascadeJob(TaskJob):
    """A derived class sets `train`, `held_out` and `recipe` before `begin`, and judges the outputs of a batch."""

    model: CascadeNCA
    config: CascadeConfig
    upright: ClassVar[bool] = False
    """Whether images are mirrored from left to right only."""
    train: Sequence[Any]
    held_out: Sequence[Any]
    recipe: ImageRecipe

    def begin(self, outputs: int) -> None:
        """Make the model, of which so many channels are read."""
        self.samples = len(self.train)
        self.model = initialised(lambda: new_cascade(self.config, outputs), self.config.seed)
        self.outputs = Outputs(self.model, self.recipe, outputs)

    def checksums(self) -> dict[str, dict[str, int]]:
        """Of every image with its target."""
        sides = {"train": self.train, "held_out": self.held_out}
        return {name: {sample.name: sample.checksum for sample in side} for name, side in sides.items()}

    def settings(self, options: Any) -> tuple[Settings, Any]:
        """The loop's options among those of the task."""
        return settings_of(options), options

    @property
    def metadata(self) -> dict[str, str]:
        """The recipe."""
        return {"recipe": self.recipe.to_json()}

    def varied(self, at: StepContext, target: Callable[[Any], Array]) -> list[tuple[Tensor, Tensor]]:
        """Images [3, h, w] of a micro-batch, and what `target` gives of their samples [h, w], cut out and mirrored
        alike; image by image, so that parts of a batch vary as the whole."""
        found = []
        for number, index in zip(at.micro_batch, at.indices, strict=True):
            sample, random = self.train[number], at.generator("augment", index)
            image, label = self.recipe.scaled(sample.pixels), torch.from_numpy(target(sample))
            image, label = augment(image, label, random, self.config.crop, self.config.flip, self.upright)
            found.append((tinted(image[None], self.config.jitter, random)[0] if self.config.jitter else image, label))
        return found

    def losses(self, batch: Any, at: StepContext) -> dict[str, Tensor]:
        """Of the outputs after this training step's steps of each level."""
        steps = self.model.jittered(at.generator("steps"), self.config.step_jitter)
        return self.judge(self.outputs.of(self.model(batch[0], steps, **at.options)), batch)

    def visuals(self) -> Iterable[Visual]:
        """Images with what is true and what is found."""
        side = "held out" if self.held_out else "training"
        for sample in (self.held_out or self.train)[: self.config.pictures]:
            state = self.outputs.state(sample.pixels, seed=self.config.seed)
            views = [View("input", sample.pixels), *self.views(sample, self.outputs.of(state).float().cpu())]
            hidden = state[3 : len(state) - self.outputs.count]
            yield Visual(f"{side}/{sample.name}", views, hidden, first=3, legend=self.legend)

    @property
    def legend(self) -> dict[str, str]:
        """Of the pictures for TensorBoard: colours by name."""
        return {}

    def views(self, sample: Any, outputs: Tensor) -> Sequence[View]:
        """Truth, prediction and error of a sample, by the outputs [count, h, w]."""
        raise NotImplementedError

    def judge(self, outputs: Tensor, batch: Any) -> dict[str, Tensor]:
        """Losses by name, of outputs [B, count, H, W] and a batch whose first tensor is the images."""
        raise NotImplementedError
