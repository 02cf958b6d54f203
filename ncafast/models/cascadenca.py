"""CascadeNCA: an automaton on smaller and then larger grids, each level going on from the one before.

After the class of this name in NCALab (MECLabTUDA/NCALab).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, NoReturn, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncafast import check
from ncafast.keywords import options_of, refuse_unknown
from ncafast.layers import check_call
from ncafast.levels import LevelsOutput, run_levels
from ncafast.models.base import RuleModule
from ncafast.models.cascade import Box, enlarge
from ncafast.nca import NCA
from ncafast.padding import pad_input
from ncafast.predicting import Predicting
from ncafast.prediction import Channels
from ncafast.rule import Rule
from ncafast.step_range import jitter
from ncafast.trace import Memory, States, drawn_seed
from ncafast.values import flag, shown, whole

Enlarge = Literal["nearest", "linear"]
Shrink = Literal["linear", "nearest", "area", "max"]
Level = RuleModule | NCA
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


class CascadeNCA(Predicting):
    """One automaton per level, or one for all, from the coarsest grid to that of the image.

    Every level starts from the image at its scale; its other channels are those of the level before, enlarged, and on
    the coarsest level 0, or noise where its automaton is an `NCA(pad_noise=True)`. The steps that an NCA's time code
    counts are those of all levels, one after the other. The automata run on states [B, C, *S], also those whose own
    layout has the channels last, and without their heads.

    NCALab's class varies the steps of every call by up to a fifth, in evaluation too, and aligns the corners of the
    grids where it shrinks. Here `jittered` draws such steps, and pixels keep their places as in torch's interpolation.

    state_dict: `levels.0.*` (the coarsest level, or the one automaton of all), `levels.1.*` and so on.

    Args:
        wrapped: an NCA or one of the published automata of `ncafast.models`; or one for each level, coarse to fine.
        scales: factor of each level by which the image is shrunk, coarse to fine; the last one is 1.
        steps: NCA steps of each level.
        single_model: whether all levels share one automaton; otherwise each has a copy. Of a sequence, each has its
            own.
        enlarge: how a level takes over the channels of the one before: "nearest", or "linear" (bilinear in 2-D).
        shrink: how the image is shrunk: "linear", "nearest" or "area" (the mean over what a cell covers), to
            `size // scale` cells; or "max", to as many rounded up.
        image_channels: channels of the image; they come first in the state. None takes those that the automaton never
            changes.

    Raises:
        TypeError: something else than such an automaton.
        ValueError: scales that do not fall to 1, another number of steps or automata than of scales, automata that
            differ in channels or axes, or ones that keep an image elsewhere or take extra channels.
    """

    def __init__(
        self,
        wrapped: Level | Sequence[Level],
        scales: Sequence[int] = (4, 2, 1),
        steps: Sequence[int] = (16, 8, 8),
        single_model: bool = True,
        *,
        enlarge: Enlarge = "nearest",
        shrink: Shrink = "linear",
        image_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.scales = _falling(scales)
        self.steps = self._each_step(steps)
        self.enlarge = _one_of("enlarge", enlarge, get_args(Enlarge))
        self.shrink = _one_of("shrink", shrink, get_args(Shrink))
        flag("single_model", single_model)
        levels = _automata(wrapped, len(self.scales), single_model)
        self.single_model = len(levels) == 1
        self.levels = nn.ModuleList(levels)
        self._kinds = [_kind(level) for level in levels]
        rule = levels[0].rule
        fixed = rule.mutable[0] if rule.mutable else 0
        if image_channels is None and not fixed:
            raise ValueError("image_channels is needed: the automaton changes all of its channels, so it does not tell")
        self.image_channels = whole("image_channels", fixed if image_channels is None else image_channels, 1)
        if self.image_channels >= rule.channels:
            raise ValueError(f"image_channels={self.image_channels} is not allowed: 1 to {rule.channels - 1} are")

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The steps of all levels, coarse to fine."""
        return tuple(level.rule for level in self._automata())

    def jittered(self, random: torch.Generator, share: float = 0.2) -> tuple[int, ...]:
        """Steps of each level, drawn evenly from `steps` less and more `share` of them; at least 1."""
        return jitter(self.steps, share, random)

    def forward(
        self,
        x: Tensor,
        steps: Sequence[int] | None = None,
        *,
        seed: int | Tensor | None = None,
        fire_masks: Sequence[Tensor] | None = None,
        states: States = None,
        memory: Memory = "states",
        first_step: int = 0,
        first_sample: int = 0,
        backend: str | None = None,
        **unknown: NoReturn,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Run all levels.

        Args:
            x: images [B, image_channels, *S]; or states [B, C, *S], whose other channels are shrunk as the image and
                start the coarsest level.
            steps: of each level; None takes the constructor's.
            seed: of the fire masks; each level draws from it, at the steps after the level before.
            fire_masks: one mask [steps, B or 1, 1, *grid of the level] per level instead of drawn ones.
            states: "all" or k: also return every (k-th) state.
            memory: as in `ncafast.rollout`.
            first_step: absolute index of the coarsest level's first step.
            first_sample: as in `ncafast.rollout`.
            backend: as in `ncafast.rollout`.

        Returns:
            The state [B, C, *S]; with states= (state, a list per level of states [n, B, C, *grid of the level]).

        Raises:
            ValueError: a wrong shape, or what `rollout` refuses.
        """
        refuse_unknown("CascadeNCA", unknown, _OPTIONS)
        options: dict[str, Any] = {"seed": seed, "states": states, "memory": memory, "fire_masks": fire_masks}
        options |= {"first_step": first_step, "first_sample": first_sample, "backend": backend}
        ran = self._levels_output(x, steps, **options)
        return ran.state if states is None else (ran.state, ran.kept)

    def _levels_output(
        self,
        image: Tensor,
        steps: Sequence[int] | None,
        *,
        first_step: int = 0,
        fire_masks: Sequence[Tensor] | None = None,
        **options: Any,
    ) -> LevelsOutput:
        self._check(image)
        if fire_masks is not None and len(fire_masks) != len(self.scales):
            raise ValueError(f"fire_masks has {len(fire_masks)} masks, but there are {len(self.scales)} levels")
        levels = self._automata()
        noise = isinstance(levels[0], NCA) and levels[0]._defaults.pad_noise
        if noise:
            options["seed"] = drawn_seed(options.get("seed"), image.device, True)
        how = {
            "noise": noise and image.shape[1] < levels[0].rule.channels,
            "seed": options.get("seed"),
            "first_sample": options.get("first_sample", 0),
        }
        return run_levels(
            levels,
            self.steps if steps is None else self._each_step(steps),
            lambda number, before: self._enter(number, image, before, **how),
            first_step=check.check_count("first_step", first_step),
            fire_masks=fire_masks,
            **options,
        )

    def _channels(self) -> Channels:
        """Of the finest automaton, whose output counts where its channels are the last ones."""
        channels = self.rules[-1].channels
        output = self._automata()[-1]._channels().output
        end = max(output.start, self.image_channels) if output.stop == channels else channels
        return Channels(slice(0, self.image_channels), slice(self.image_channels, end), slice(end, channels))

    def config(self) -> dict[str, Any]:
        """What `from_config` needs to build this module again, as plain data."""
        wrapped = [[type(level).__name__, level.config()] for level in self.levels]  # type: ignore[operator]
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {"wrapped": wrapped} | plain

    @classmethod
    def from_config(cls, wrapped: Sequence[tuple[str, dict[str, Any]]], **arguments: Any) -> CascadeNCA:
        """The cascade that `config` describes."""
        from ncafast import models  # which imports this module

        kinds = {"NCA": NCA.from_config} | {name: getattr(models, name) for name in models.__all__}
        levels = [kinds[name](**config) for name, config in wrapped]
        return cls(levels[0] if len(levels) == 1 else levels, **arguments)

    def extra_repr(self) -> str:
        """The arguments beside the automata."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in _PLAIN)

    def _automata(self) -> list[Level]:
        """The automaton of each level, coarse to fine."""
        levels: list[Any] = list(self.levels)
        for number, (level, kind) in enumerate(zip(levels, self._kinds, strict=True)):
            check_call(f"levels.{number}", level, kind)
        return levels * len(self.scales) if self.single_model else levels

    def _each_step(self, steps: Sequence[int]) -> tuple[int, ...]:
        if not isinstance(steps, (tuple, list)) or len(steps) != len(self.scales):
            raise ValueError(f"steps={shown(steps)} is not allowed: give {len(self.scales)} numbers, one per scale")
        return tuple(whole("steps", count, 0) for count in steps)

    def _enter(self, number: int, x: Tensor, before: Tensor | None, **how: Any) -> Tensor:
        """The first state of a level: the image at its scale, beside the other channels of the level before, or those
        that `pad_input` makes as `how` says."""
        if before is None:
            return pad_input(self._shrunk(x, self.scales[0]), self.rules[0].channels, **how)
        image = self._shrunk(x[:, : self.image_channels], self.scales[number])
        hidden = before[:, self.image_channels :]
        ratio = self.scales[number - 1], self.scales[number]
        return torch.cat((image, self._enlarged(hidden, ratio, tuple(image.shape[2:]))), 1)

    def _shrunk(self, x: Tensor, scale: int) -> Tensor:
        """[B, any, *S] -> [B, any, *grid of the level]."""
        ndim = x.dim() - 2
        if scale == 1:
            return x
        if self.shrink == "max":
            return _MAX_POOL[ndim](x, scale, ceil_mode=True)
        mode = _LINEAR[ndim] if self.shrink == "linear" else self.shrink
        return F.interpolate(x, size=[side // scale for side in x.shape[2:]], mode=mode)

    def _enlarged(self, hidden: Tensor, ratio: tuple[int, int], size: Box) -> Tensor:
        """[B, any, *grid of the level before] -> [B, any, *size]."""
        before, after = ratio
        factor, rest = before // after, before % after
        if self.enlarge == "nearest" and self.shrink == "max" and not rest:  # whose last cells may cover fewer
            return enlarge(hidden, factor, size)
        mode = _LINEAR[len(size)] if self.enlarge == "linear" else "nearest"
        return F.interpolate(hidden, size=size, mode=mode)

    def _check(self, x: Tensor) -> None:
        check.check_floating("x", x)
        rule, image = self.rules[0], self.image_channels
        if x.dim() != rule.ndim + 2 or x.shape[1] not in (image, rule.channels):
            axes = ", ".join("DHW"[-rule.ndim :])
            raise ValueError(
                f"CascadeNCA takes images [B, {image}, {axes}] or states [B, {rule.channels}, {axes}], "
                f"got shape {list(x.shape)}"
            )
        least = 1 if self.shrink == "max" else self.scales[0]
        if min(x.shape[2:]) < least:
            sides = " x ".join(map(str, x.shape[2:]))
            raise ValueError(f"an image of {sides} cells is too small: each side must be at least scales[0]={least}")


_OPTIONS = options_of(CascadeNCA.forward, 2)
_PLAIN = options_of(CascadeNCA.__init__, 2)  # arguments that are attributes as well


def _one_of(name: str, value: Any, kinds: Sequence[str]) -> Any:
    if value not in kinds:
        raise ValueError(f"{name}={shown(value)} is not allowed: it must be one of {', '.join(kinds)}")
    return value


def _falling(scales: Sequence[int]) -> tuple[int, ...]:
    """The scales, or an error if they do not fall to 1."""
    found = tuple(whole("scales", scale, 1) for scale in scales)
    if not found or found[-1] != 1 or list(found) != sorted(found, reverse=True):
        raise ValueError(f"scales={shown(found)} is not allowed: give numbers that fall to 1, such as (4, 2, 1)")
    return found


def _automata(wrapped: Any, count: int, single_model: bool) -> list[Level]:
    """One automaton for all levels, or one for each."""
    given = list(wrapped) if isinstance(wrapped, (tuple, list, nn.ModuleList)) else [wrapped]
    if len(given) not in (1, count):
        raise ValueError(f"wrapped holds {len(given)} automata, but there are {count} scales; give one or one for each")
    for level in given:
        _check_automaton(level)
        if (level.rule.channels, level.rule.ndim) != (given[0].rule.channels, given[0].rule.ndim):
            raise ValueError("wrapped holds automata of different channels or axes; all levels share one state")
    if len(given) == 1 and not single_model:
        given += [copy.deepcopy(given[0]) for _ in range(count - 1)]
    return given


def _kind(level: Level) -> type[nn.Module]:
    """The class whose forward the automaton has."""
    return next(kind for kind in type(level).__mro__ if "forward" in vars(kind))


def _check_automaton(level: Any) -> None:
    """Raise an error for what cannot run a level."""
    if not isinstance(level, (NCA, RuleModule)) or not _kind(level).__module__.startswith("ncafast."):
        raise TypeError(f"wrapped must be an NCA or an automaton of ncafast.models, got {type(level).__name__}")
    time = level._defaults.time if isinstance(level, NCA) else None
    extra = level.rule.extra - (0 if time is None else time.channels)
    if extra or level.rule.restore is not None:
        what = "takes extra channels" if extra else "keeps its image in other channels than the first"
        raise ValueError(f"a {type(level).__name__} that {what} cannot run a level of a cascade")
