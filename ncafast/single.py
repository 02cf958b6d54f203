"""A model that is one automaton, and so one level."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ncafast import check
from ncafast.convergence import Automaton, Convergence
from ncafast.levels import Advance, LevelsOutput, run_levels
from ncafast.predicting import Predicting
from ncafast.prediction import Channels
from ncafast.rule import Rule
from ncafast.step_range import check_steps, draw_steps, most


class Single(Predicting):
    """A subclass has a `rule`, and says how it runs on states [B, C, *S]."""

    rule: Any  # a property everywhere

    def _stepper(self) -> Advance:
        """As `ncafast.levels.Level`."""
        raise NotImplementedError

    def _automaton(self, extra: Tensor | None) -> Automaton:
        """As `ncafast.levels.Level`."""
        raise NotImplementedError

    def _asked(self, steps: Any) -> Any:
        """The number or range of steps of a call that names these."""
        if steps is None:
            raise TypeError(f"steps= is needed: a {type(self).__name__} has no number of its own")
        return check_steps("steps", steps)

    def _begun(self, image: Tensor, seed: Tensor, first_sample: int) -> Tensor:
        """The state [B, C, *S] that an image, or a state, begins with."""
        check_begin(image, self.rule, part := self._channels().image, type(self).__name__)
        if image.shape[1] == self.rule.channels:
            return image
        state = image.new_zeros(len(image), self.rule.channels, *image.shape[2:])
        state[:, part] = image
        return state

    def _channels(self) -> Channels:
        rule = self.rule
        return Channels(slice(0, rule.lo), slice(rule.lo, rule.channels), slice(rule.channels, rule.channels))

    def _levels_output(
        self,
        image: Tensor,
        steps: Any,
        *,
        seed: Any = None,
        first_step: int = 0,
        first_sample: int = 0,
        until: Convergence | None = None,
        **options: Any,
    ) -> LevelsOutput:
        asked = self._asked(steps)
        count = draw_steps(asked, seed) if until is None else most(asked)
        state = self._begun(image, seed, check.check_count("first_sample", first_sample))
        where: dict[str, Any] = {"seed": seed, "first_sample": first_sample, "until": until}
        first_step = check.check_count("first_step", first_step)
        return run_levels([self], [count], lambda number, before: state, first_step=first_step, **where, **options)


def check_begin(image: Tensor, rule: Rule, part: slice, owner: str) -> None:
    """Raise ValueError for what is no state, and no image of channels that the rule does not change."""
    own = part.stop <= rule.lo or rule.restore == (part.start, part.stop)
    images = part.stop - part.start if own else 0
    if image.dim() == rule.ndim + 2 and image.shape[1] in {images, rule.channels} - {0}:
        return
    axes = ", ".join("DHW"[-rule.ndim :])
    kinds = f"images [B, {images}, {axes}] or " if images else ""
    last = image.dim() == rule.ndim + 2 and image.shape[-1] in {images, rule.channels} - {0}
    hint = "; the channels come second here, x.movedim(-1, 1) brings them there" if last else ""
    raise ValueError(
        f"{owner}.predict takes {kinds}states [B, {rule.channels}, {axes}], got shape {list(image.shape)}{hint}"
    )
