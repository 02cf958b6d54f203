"""Self-classifying digits: every cell of a handwritten digit says which digit it is part of, until all agree."""

from __future__ import annotations

from collections.abc import Iterable

from ncafast.models import SelfClassifyingNCA
from ncafast.tasks.base import Task, Trained
from ncafast.tasks.selfclassify import pictures
from ncafast.tasks.selfclassify.idx import CLASSES, read_digits
from ncafast.tasks.selfclassify.job import SelfClassifying
from ncafast.tasks.selfclassify.options import AnimateConfig, TrainConfig
from ncafast.tasks.selfclassify.prediction import inputs, predict
from ncafast.tasks.selfclassify.running import film
from ncafast.tasks.selfclassify.scores import score
from ncafast.utils.option_checks import Range, refused
from ncafast.viz.captions import Frame
from ncafast.viz.styles import style_of

_MOST_STEPS = 1_000_000
_SHARE = Range(0, 1, whole=False)


class SelfClassifyTask(Task[int]):
    """See `ncafast train selfclassify --help`. A checkpoint holds the steps of the longest training rollout."""

    name, unit, models = "selfclassify", "digits", (SelfClassifyingNCA,)
    evaluation_files = ("scores.csv", "scores.json", "accuracy.png", "confusion.png", "digits.png")
    free = frozenset({"data"})  # what it leads to is compared itself
    limits = {
        **dict.fromkeys(("steps", "pool_size", "perception", "measured", "digits", "zoom"), 1),
        **dict.fromkeys(("pool_after", "val_count", "size", "exchanges"), 0),
        **dict.fromkeys(("fresh", "mutate"), _SHARE),
        "state_channels": CLASSES + 1,
    }
    evaluate, inputs, predict = staticmethod(score), staticmethod(inputs), staticmethod(predict)

    def check(self, options: TrainConfig) -> None:
        if not options.hidden:
            raise refused("hidden", options.hidden, "give one or more whole numbers from 1")
        if options.fresh + options.mutate > 1:
            raise ValueError(
                f"fresh={options.fresh} and mutate={options.mutate} are more than a whole batch; give two numbers that "
                "add up to at most 1"
            )

    def rank_by(self, options: TrainConfig) -> str:
        return "val_cells"

    def job(self, options: TrainConfig) -> SelfClassifying:
        return SelfClassifying(self, options, read_digits(options.data, "train"))

    def read(self, model: SelfClassifyingNCA, metadata: dict[str, str]) -> int:
        steps = int(metadata["steps"])
        if not 1 <= steps <= _MOST_STEPS:
            raise ValueError(f"steps={steps}")
        if model.ndim != 2 or model.channel_size <= CLASSES:
            raise ValueError(f"ndim={model.ndim}, channel_size={model.channel_size}")
        return steps

    def frames(self, trained: Trained[int], options: AnimateConfig) -> Iterable[Frame]:
        states, style = film(trained.model, trained.spec, options), style_of(options.style)
        rounds = options.exchanges + 1
        steps = len(states) // rounds - 1
        frames = []
        for index, each in enumerate(states):
            number, step = divmod(index, steps + 1)
            label = f"step {step} of {steps}" if rounds == 1 else f"digits {number + 1} of {rounds}, step {step}"
            frames.append(Frame(pictures.with_legend(each, options.zoom, style), label, (index + 1) / len(states)))
        return frames


TASK = SelfClassifyTask()
