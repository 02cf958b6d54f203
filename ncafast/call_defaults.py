"""What a call of an NCA does that is not its rule's: how many steps, what it begins with, and the code of the time."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from ncafast import check
from ncafast.padding import pad_input
from ncafast.rule import Rule
from ncafast.step_range import Steps, check_steps, most
from ncafast.time_code import TimeCode, make_time_code
from ncafast.trace import drawn_seed
from ncafast.values import flag, whole

DEFAULT_STEPS = 32


class Defaults(NamedTuple):
    """The constructor's arguments that calls go by, checked."""

    steps: Steps
    eval_steps: Steps | None
    time: TimeCode | None
    pad_noise: bool
    outputs: int

    @classmethod
    def of(
        cls,
        steps: Steps = DEFAULT_STEPS,
        eval_steps: Steps | None = None,
        time_code: str | None = None,
        max_steps: int | None = None,
        pad_noise: bool = False,
        outputs: int = 0,
    ) -> Defaults:
        """From the arguments of `NCA`, or an error that says what is allowed."""
        steps = check_steps("steps", steps)
        in_eval = None if eval_steps is None else check_steps("eval_steps", eval_steps)
        time = make_time_code(time_code, max_steps, max(1, most(steps)))
        return cls(steps, in_eval, time, flag("pad_noise", pad_noise), whole("outputs", outputs, 0))

    def config(self) -> dict[str, Any]:
        """The arguments that differ from the defaults; earlier versions know none of them but steps."""
        kind, max_steps = self.time or (None, None)
        given: dict[str, Any] = {
            "steps": self.steps,
            "eval_steps": self.eval_steps,
            "time_code": kind,
            "max_steps": max_steps,
        }
        given |= {"pad_noise": self.pad_noise, "outputs": self.outputs}
        plain = {"steps": DEFAULT_STEPS, "pad_noise": False, "outputs": 0}
        return {name: value for name, value in given.items() if value != plain.get(name)}

    def asked(self, steps: Steps | None, training: bool) -> Steps:
        """The number or range of steps of a call that names these."""
        if steps is not None:
            return check_steps("steps", steps)
        return self.steps if training or self.eval_steps is None else self.eval_steps

    def pads(self, x: Tensor, rule: Rule) -> bool:
        """Whether x is an image of the immutable channels, of which a state is made first."""
        return isinstance(x, Tensor) and x.dim() > 2 and 0 < rule.lo == x.shape[1]

    def state(
        self, x: Tensor, rule: Rule, seed: int | Tensor | None, first_sample: int
    ) -> tuple[Tensor, int | Tensor | None]:
        """The state that a call begins with, an image of the immutable channels padded, and its seed."""
        if not self.pads(x, rule):
            return x, seed
        seed = drawn_seed(seed, x.device, True) if self.pad_noise else seed
        return pad_input(x, rule.channels, self.pad_noise, seed=seed, first_sample=first_sample), seed

    def extra(self, extra: Tensor | None, x: Tensor, first_step: int, steps: int) -> Tensor | None:
        """The extra channels of a call, with those of the time behind the given ones."""
        if self.time is None:
            return extra
        return self.time.after(extra, x, check.check_count("first_step", first_step), steps)
