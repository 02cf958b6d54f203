"""Growing: an image that grows from one cell, stays, and heals."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from ncafast.models import GrowingNCA
from ncafast.tasks.base import Task, Trained
from ncafast.tasks.growing.emoji import draw_emoji
from ncafast.tasks.growing.healing import run_states
from ncafast.tasks.growing.job import FromPool, FromSeed, Growing
from ncafast.tasks.growing.options import AnimateConfig, TrainConfig
from ncafast.tasks.growing.pictures import beside_channels, on_page
from ncafast.tasks.growing.regeneration import regenerate
from ncafast.tasks.growing.states import cut_away, seed_states
from ncafast.tasks.growing.target import MOST_SIZE, Spec, Target, make_target, read_target
from ncafast.tasks.images import Reading
from ncafast.utils.option_checks import Range, refused
from ncafast.utils.seeds import mix
from ncafast.viz.captions import Frame
from ncafast.viz.styles import style_of

_MOST_STEPS = 1_000_000
_RANK_BY = {"growing": "val_grown", "persistent": "val_later", "regenerating": "val_healed"}


class GrowingTask(Task[Spec]):
    """See `ncafast train growing --help`."""

    name, unit, models = "growing", "images", (GrowingNCA,)
    evaluation_files = ("healing.json", "steps.csv", "healing.png")
    free = frozenset({"image", "font", "value_range", "max_pixels"})  # what they lead to, the target, is compared
    limits = {
        **dict.fromkeys(("steps", "pool_size", "grow", "heal", "every", "zoom"), 1),
        **dict.fromkeys(("damage", "damage_after"), 0),
        "size": Range(1, MOST_SIZE),
        "padding": Range(0, MOST_SIZE),
        "damage_size": Range(0, 1, whole=False),
        "state_channels": 4,
    }
    evaluate = staticmethod(regenerate)

    def check(self, options: TrainConfig) -> None:
        if (options.image is None) == (options.emoji is None):
            raise ValueError("give either an image file with --image or an emoji with --emoji")
        if options.font is not None and options.emoji is None:
            raise ValueError("--font is for --emoji, which is not given")
        if options.damage_size[0] > options.damage_size[1]:
            raise refused("damage_size", options.damage_size, "give the smaller number first")

    def rank_by(self, options: TrainConfig) -> str:
        return _RANK_BY[options.regime]

    def job(self, options: TrainConfig) -> Growing:
        return (FromSeed if options.regime == "growing" else FromPool)(self, options, _target(options))

    def read(self, model: GrowingNCA, metadata: dict[str, str]) -> Spec:
        steps = int(metadata["steps"])
        if not 1 <= steps <= _MOST_STEPS:
            raise ValueError(f"steps={steps}")
        return Spec(Target.from_text(metadata["target"], int(metadata["padding"])), steps, metadata.get("regime", ""))

    def frames(self, trained: Trained[Spec], options: AnimateConfig) -> Iterable[Frame]:
        draw, page = beside_channels if options.hidden else on_page, style_of(options.style).rgb("background")
        shown = film(trained, options)
        return [
            Frame(draw(state, options.zoom, page), label, number / len(shown))
            for number, (label, state) in enumerate(shown, start=1)
        ]


def film(trained: Trained[Spec], options: AnimateConfig) -> list[tuple[str, Tensor]]:
    """What all frames show, in words and as states [C, H, W]: the seed, growth, and after each cut the state without
    that part and its healing."""
    model, target = trained.model, trained.spec.target.tensor()
    usual = 3 * trained.spec.longest // 2
    pause = max(1, int(options.fps) // 3)  # frames for which the seed and every cut are shown
    state = seed_states(1, model.channel_n, *target.shape[-2:]).to(next(model.parameters()).device)  # [1, C, H, W]
    shown = [("the seed", state[0])] * pause
    for number, cut in enumerate((None, *options.cuts)):
        steps = (options.grow if cut is None else options.heal) or usual
        if cut is not None:
            state = cut_away(state, cut, target)
            shown += [(f"{cut} cut away", state[0])] * pause
        steps, what = max(steps, options.every), "growing" if cut is None else "healing"
        kept = run_states(model, state, steps, mix("film", options.seed, number), options.every)
        labels = (f"{what}, step {step} of {steps}" for step in range(options.every, steps + 1, options.every))
        shown += zip(labels, kept[:, 0], strict=True)
        state = kept[-1]
    return [(label, state.cpu()) for label, state in shown]


def _target(options: TrainConfig) -> Target:
    size, padding, background = options.size, options.padding, options.background
    if options.image is not None:
        reading = Reading.of(options)
        return read_target(options.image, size=size, padding=padding, background=background, reading=reading)
    image = draw_emoji(options.emoji or "", options.font)
    return make_target(image, f"emoji {options.emoji}", size=size, padding=padding, background=background)


TASK = GrowingTask()
