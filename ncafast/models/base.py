"""What the published models share: a Rule that follows their layers, and the one call into `rollout`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, overload

from torch import Tensor, nn

from ncafast import check
from ncafast.backends.precision import precision
from ncafast.convergence import Automaton
from ncafast.functional import OPTIONS
from ncafast.keywords import options_of, refuse_unknown
from ncafast.layers import Layers, derive, follow
from ncafast.levels import Advance
from ncafast.rule import Rule
from ncafast.single import Single
from ncafast.trace import Options, Trace, trace
from ncafast.values import number

_SHOWN = (bool, int, float, str, tuple, list, type(None))  # kinds of arguments that `print` shows


class Rate:
    """A module's attribute that holds a rate of firing; setting it changes the module's rule at once.

    So a forward pass finds its rule ready: building one is slow, and torch.compile cannot trace it.
    """

    def __init__(self, *, above: bool) -> None:
        """`above`: a cell updates when a uniform number is above the rate, so with probability 1 - rate."""
        self.above = above

    def __set_name__(self, owner: type[RuleModule], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, module: None, owner: type[RuleModule]) -> Rate: ...

    @overload
    def __get__(self, module: RuleModule, owner: type[RuleModule]) -> float: ...

    def __get__(self, module: RuleModule | None, owner: type[RuleModule]) -> Rate | float:
        return self if module is None else module._rate

    def __set__(self, module: RuleModule, rate: float) -> None:
        rate = check_rate(self.name, rate)
        module._rule = module._rule.replace(fire_rate=1.0 - rate if self.above else rate)
        module._rate = rate


class Rebuildable(nn.Module):
    """A module that keeps each argument of its constructor in the attribute of that name, so that it can be saved."""

    def config(self) -> dict[str, Any]:
        """The constructor's arguments at their present values, as plain data: `type(module)(**config)` is its twin."""
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names if name != "device"}

    def extra_repr(self) -> str:
        """The constructor's arguments; a subclass of somebody's may not keep them all."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "device"]
        values = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return ", ".join(f"{name}={value!r}" for name, value in values.items() if isinstance(value, _SHOWN))


class RuleModule(Rebuildable, Single):
    """A module that owns a Rule and runs it.

    Its layers hold the parameters and are never called. What they would do is read from them whenever the model runs:
    kernel size, padding, groups, biases, kind and mode of the norm. A layer that computes what no Rule can express
    (hooks, a wrapper, stride, dilation) is a ValueError that names it.

    Every model's `forward` passes further keyword options on to `ncafast.rollout`: seed, fire_mask
    [steps, B or 1, 1, *S], first_step, first_sample, states ("all" or k), memory, backend.
    """

    _rule: Rule  # what the layers do not determine
    _rate: float
    _prefix = ""  # of the layers' names in messages
    _linear_layers = False  # whether the original's layers are torch.nn.Linear and not convolutions
    _options: tuple[str, ...]  # of forward, with those that it passes on

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._options = (*options_of(cls.forward, 2), *OPTIONS)

    @property
    def rule(self) -> Rule:
        """The step as a Rule, at the module's own rate of firing, with the layers in their present mode."""
        return self._derived(self._rule, self._rule.fire_rate)

    def extra_repr(self) -> str:
        """The constructor's arguments, and the step in a few words."""
        try:
            rule = self.rule
        except (TypeError, ValueError):  # a layer that cannot run still prints
            rule = self._rule
        lines = super().extra_repr(), f"step: {rule.summary()}, cells update with probability {rule.fire_rate:g}"
        return "\n".join(filter(None, lines))

    def params(self) -> dict[str, Tensor]:
        """The tensors of `rule.param_shapes()`, as differentiable views of the model's own parameters."""
        return self._tensors(self.rule)

    def _layers(self) -> Layers:
        """The layers' settings."""
        raise NotImplementedError

    def _tensors(self, rule: Rule) -> dict[str, Tensor]:
        """`params` for a rule that was derived already."""
        raise NotImplementedError

    def _norms(self) -> Sequence[nn.Module]:
        """The norms of the hidden layers."""
        return ()

    def _derived(self, rule: Rule, probability: float) -> Rule:
        """`rule` with what the layers determine, for cells that update with this probability."""
        try:
            return derive(rule, probability, self._layers())
        except ValueError as error:
            raise ValueError(f"{self._prefix}{error}") from None

    def _rule_at(self, fire_rate: float | None) -> Rule:
        """The rule for an argument fire_rate= that is the probability NOT to update; None is the module's own."""
        probability = self._rule.fire_rate if fire_rate is None else 1.0 - check_rate("fire_rate", fire_rate)
        return self._derived(self._rule, probability)

    def _run(
        self,
        x: Tensor,  # [B, C, *S]
        rule: Rule,
        params: dict[str, Tensor],
        steps: int,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Final state [B, C, *S], and the kept states [n, B, C, *S] or None."""
        refuse_unknown(type(self).__name__, options, self._options)
        done = self._trace(x, rule, params, steps, **options)
        norms = self._norms()
        if norms and rule.norm == "batch" and x.shape[0]:
            follow(norms, done.stats, x.numel() // x.shape[1])
        return done.out, done.states

    def _stepper(self) -> Advance:
        rule = self._level_rule()
        params = self._tensors(rule)
        return lambda state, steps, **options: self._run(state, rule, params, steps, **options)

    def _automaton(self, extra: Tensor | None) -> Automaton:
        rule = self._level_rule()
        return Automaton(rule, self._tensors(rule), lambda *at: extra, self._linear_layers)

    def _level_rule(self) -> Rule:
        """`rule`, but in evaluation that of evaluation."""
        rule = self.rule
        return rule if self.training else rule.for_eval()

    def _trace(self, x: Tensor, rule: Rule, params: dict[str, Tensor], steps: int, **options: Any) -> Trace:
        """`trace`, on a GPU with products as accurate as those of the layers that the rollout stands for."""
        rounding = precision(x, linear=self._linear_layers)
        return trace(x, rule, params, steps, Options(precision=rounding, **options))


def check_rate(name: str, rate: Any) -> float:
    """The rate as a float from 0 to 1, or an error in the user's own terms (a model may turn it into 1 - rate)."""
    if isinstance(rate, float) and 0.0 <= rate <= 1.0:  # all that torch.compile needs to trace
        return rate
    return number(name, rate, 0.0, 1.0)


def channels_first(x: Tensor, channels: int, ndim: int, owner: str) -> Tensor:
    """[B, *S, C] as a view [B, C, *S].

    Raises:
        TypeError: x is no dense floating point tensor.
        ValueError: x has another rank or channel count.
    """
    check.check_floating("x", x)
    if x.dim() != ndim + 2 or x.shape[-1] != channels:
        axes = ", ".join("DHW"[-ndim:])
        hint = ""
        if x.dim() == ndim + 2 and x.shape[1] == channels:
            hint = "; the channels are the last axis, x.movedim(1, -1) brings them there"
        raise ValueError(f"{owner} takes x as [B, {axes}, {channels}], got shape {list(x.shape)}{hint}")
    return x.movedim(-1, 1)
