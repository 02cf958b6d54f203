"""NCA: a neural cellular automaton as one nn.Module, parameters plus Rule."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ncafast.call_defaults import DEFAULT_STEPS, Defaults
from ncafast.convergence import Automaton
from ncafast.fixed_filters import fixed_filters, fixed_sizes, is_learned, per_channel
from ncafast.initialisation import draw
from ncafast.keywords import options_of, refuse_unknown
from ncafast.layers import Dense, Layers, check_call, derive, follow, norm, norm_layer, norm_tensors
from ncafast.levels import Advance, with_kept
from ncafast.perception import perception
from ncafast.prediction import Channels
from ncafast.rule import Alive, Rule, layer_name
from ncafast.single import Single, check_begin
from ncafast.step_range import Steps, check_steps, draw_steps
from ncafast.trace import Memory, Options, States, trace
from ncafast.values import flag, shown, whole

_SHOWN = ("channels", "hidden", "num_filters", "kernel_size", "fire_rate")


class NCA(Single):
    """A neural cellular automaton: `nca(x, steps=32)` runs a whole rollout as one operator.

    Cells fire at random in evaluation too, as in the originals of most automata; `fire_in_eval=False` lets every cell
    update there.

    Parameters by name: perceive.weight [F, C, *k], perceive.bias [F, C], hidden.weight [H, P], hidden.bias [H],
    norm.weight [H], norm.bias [H], update.weight [M, H], update.bias [M]; fixed filters are a buffer. `norm` is the
    layer of torch.nn that does the same (norm="running": BatchNorm). Its class, eps, momentum and mode are followed;
    running statistics are updated as by calling it once per step. No sub-module is called, so hooks on one and wrappers
    around one are a ValueError.

    Args:
        channels: C, channels of the state.
        hidden: H, width of the hidden layer; a sequence gives several layers.
        ndim: spatial axes, 1 to 3.
        filters: "learned"; or fixed ones: "sobel", "laplacian", "identity", a sequence of these names, or a tensor
            [F, *k] or [F, C, *k].
        num_filters: F of learned filters, default 2; fixed filters bring their number.
        kernel_size: of learned filters, odd, 1 to 7, default 3; fixed filters bring their size.
        identity: whether the state itself is part of the perception.
        filter_bias: whether the filters have a (learned) bias.
        padding: "zeros", "reflect", "replicate" or "circular".
        norm: None, "batch", "running", "group", "instance" or "layer".
        activation: of the hidden layers.
        fire_rate: probability that a cell updates.
        immutable: the first that-many channels never change (images).
        update_bias: whether the last layer has a bias.
        alive: (channel, threshold) for a mask before and after the update, an `Alive` for finer choices, or None.
        zero_init: start the last layer at zero, so that the untrained automaton stands still.
        steps: of a call that names none, such as in a torch.nn.Sequential; (min, max) draws from min to max, both
            included, for each call.
        eval_steps: the same in evaluation; None means `steps`.
        time_code: "linear" or "sincos" adds channels to the perception, behind the extra ones, that say which step it
            is (`ncafast.time_code.TimeCode`); None adds none. The rollout stays one operator.
        max_steps: of the time code; None means the most of `steps`.
        pad_noise: an x of the first `immutable` channels alone is an image, behind which the state starts as zeros, or
            with `pad_noise` as noise (`ncafast.pad_input`).
        outputs: so many channels, the last ones, are what is read of the state; `predict` shows them apart from the
            hidden ones. The rollout does not know them.
        **rule_fields: any other field of `Rule`, such as step_size, extra, norm_groups, noise.

    Raises:
        TypeError, ValueError: a wrong argument; the message names it and says what is allowed.
    """

    _defaults: Defaults

    def __init__(
        self,
        channels: int = 16,
        hidden: int | Sequence[int] = 128,
        *,
        ndim: int = 2,
        filters: str | Sequence[str] | Tensor = "sobel",
        num_filters: int | None = None,
        kernel_size: int | Sequence[int] | None = None,
        identity: bool = True,
        filter_bias: bool = False,
        padding: str = "zeros",
        norm: str | None = None,
        activation: str = "relu",
        fire_rate: float = 0.5,
        immutable: int = 0,
        update_bias: bool = False,
        alive: tuple[int, float] | Alive | None = None,
        zero_init: bool = True,
        steps: Steps = DEFAULT_STEPS,
        eval_steps: Steps | None = None,
        time_code: str | None = None,
        max_steps: int | None = None,
        pad_noise: bool = False,
        outputs: int = 0,
        **rule_fields: Any,
    ) -> None:
        refuse_unknown("NCA", rule_fields, _ARGUMENTS)
        flag("zero_init", zero_init)
        plain = Rule(channels=channels, ndim=ndim)
        fixed = None
        if rule_fields.get("perception", "depthwise") != "depthwise":
            if not isinstance(filters, str) or filters not in ("learned", "sobel"):  # the default stands for none given
                raise ValueError(
                    "filters= goes with perception='depthwise' only; NCA.from_rule takes a tensor for others"
                )
        elif not is_learned(filters):
            fixed = fixed_filters(filters, plain.ndim)
            num_filters, kernel_size = fixed_sizes(filters, fixed, plain.ndim, num_filters, kernel_size)
        mutable = rule_fields.pop("mutable", None)
        if whole("immutable", immutable, 0, plain.channels - 1):
            if mutable is not None:
                raise ValueError("give either immutable= or mutable=, not both")
            mutable = (immutable, channels)
        if isinstance(alive, tuple):
            if len(alive) != 2:
                raise ValueError(f"alive={shown(alive)} is not allowed: give (channel, threshold), an Alive or None")
            alive = Alive(*alive)
        rule = Rule().replace(
            channels=channels,
            ndim=ndim,
            num_filters=2 if num_filters is None else num_filters,
            kernel_size=3 if kernel_size is None else kernel_size,
            identity=identity,
            filter_bias=filter_bias,
            padding=padding,
            hidden=hidden,
            norm="none" if norm is None else norm,
            activation=activation,
            fire_rate=fire_rate,
            update_bias=update_bias,
            mutable=mutable,
            alive=alive,
            **rule_fields,
        )
        super().__init__()
        defaults = Defaults.of(steps, eval_steps, time_code, max_steps, pad_noise, outputs)
        if defaults.time is not None:
            rule = rule.replace(extra=rule.extra + defaults.time.channels)
        self._build(rule, fixed, zero_init, defaults)

    @classmethod
    def from_rule(
        cls,
        rule: Rule,
        *,
        filters: str | Sequence[str] | Tensor = "learned",
        zero_init: bool = True,
        **calls: Any,
    ) -> NCA:
        """An NCA of exactly this rule.

        Args:
            rule: what one step does. The last of its extra channels are those of a time code.
            filters: as in the constructor: learned, or fixed ones of the rule's shape.
            zero_init: as in the constructor.
            **calls: further ones of the constructor: steps, eval_steps, time_code, max_steps, pad_noise, outputs.
        """
        if not isinstance(rule, Rule):
            raise TypeError(f"rule must be an ncafast.Rule, got {type(rule).__name__}")
        flag("zero_init", zero_init)
        fixed = None if is_learned(filters) or not rule.has_filters else fixed_filters(filters, rule.ndim)
        nca = cls.__new__(cls)
        nn.Module.__init__(nca)
        defaults = Defaults.of(**calls)
        if defaults.time is not None and rule.extra < defaults.time.channels:
            raise ValueError(
                f"time_code= fills the last {defaults.time.channels} extra channels, got extra={rule.extra}"
            )
        nca._build(rule, fixed, zero_init, defaults)
        return nca

    @classmethod
    def from_config(cls, rule: str, fixed_filters: bool, **calls: Any) -> NCA:
        """The NCA that `config` describes; a fixed filter's values come with the state_dict."""
        parsed = Rule.from_json(rule)
        fixed = torch.zeros(parsed.param_shapes()["perceive.weight"]) if fixed_filters else "learned"
        return cls.from_rule(parsed, filters=fixed, **calls)

    def config(self) -> dict[str, Any]:
        """What `from_config` needs to build this module again, as plain data."""
        fixed = any(name == "perceive.weight" for name, _ in self.named_buffers())
        return {"rule": self.rule.to_json(), "fixed_filters": fixed, **self._defaults.config()}

    def forward(
        self,
        x: Tensor,  # [B, C, *S], or [B, immutable, *S]
        steps: Steps | None = None,
        *,
        seed: int | Tensor | None = None,
        fire_mask: Tensor | None = None,  # [T, B or 1, 1, *S]
        extra: Tensor | None = None,  # [B or 1, E, *(S or 1)] or [T, ...]
        states: States = None,
        memory: Memory = "states",
        first_step: int = 0,
        first_sample: int = 0,
        backend: str | None = None,
        film: tuple[Tensor, Tensor] | None = None,  # [B, H] each
        **unknown: NoReturn,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Run `steps` steps from x, or the constructor's. Arguments, result and errors as in `ncafast.rollout`."""
        refuse_unknown("NCA.forward", unknown, _OPTIONS)
        count = draw_steps(self._defaults.asked(steps, self.training), seed)
        rule = self._present_rule()
        x, seed = self._defaults.state(x, rule, seed, first_sample)
        extra = self._defaults.extra(extra, x, first_step, count)
        options = Options(first_step, first_sample, seed, fire_mask, extra, states, memory, backend, film=film)
        done = trace(x, rule, self._tensors(rule), count, options)
        if rule.norm == "batch" and x.shape[0]:
            follow(self._norms(), done.stats, x.numel() // x.shape[1])
        return done.out if done.states is None else (done.out, done.states)

    def perception(self, x: Tensor, *, extra: Tensor | None = None, first_step: int = 0) -> Tensor:
        """What the hidden layers read of state x, [B, P, *S], as `ncafast.perception` with the module's parameters.

        With a time code that of step `first_step`.
        """
        rule = self._present_rule()
        if self._defaults.time is not None:
            extra = self._defaults.time.after(extra, x, first_step, 1)[0]
        return perception(x, rule, self._tensors(rule), extra=extra)

    @property
    def rule(self) -> Rule:
        """What one step does. Norm "running" stands for a layer that collects statistics, in training too."""
        return derive(self._rule, self._rule.fire_rate, self._layers(described=True))

    @property
    def momentum(self) -> float | None:
        """Of running statistics, as in torch.nn.BatchNorm2d; setting it sets it for all norms."""
        found = [layer.momentum for layer in self._norms() if isinstance(layer, _BatchNorm)]
        return found[0] if found else None

    @momentum.setter
    def momentum(self, value: float | None) -> None:
        for layer in self._norms():
            if isinstance(layer, _BatchNorm):
                layer.momentum = value  # type: ignore[assignment]

    @property
    def steps(self) -> Steps:
        """Of a call that names none; may be set."""
        return self._defaults.steps

    @steps.setter
    def steps(self, steps: Steps) -> None:
        self._defaults = self._defaults._replace(steps=check_steps("steps", steps))

    def params(self) -> dict[str, Tensor]:
        """The tensors of one step by name, as `rollout` takes them in the module's present mode."""
        return self._tensors(self._present_rule())

    def get_parameter_or_buffer(self, name: str) -> Tensor:
        """The tensor called `name` ("hidden.weight"), learned or fixed."""
        module, leaf = name.rsplit(".", 1)
        return getattr(getattr(self, module), leaf)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """What every reader asks for, and fields of the rule that differ from the defaults."""
        plain = Rule()
        try:
            rule = self.rule
        except ValueError:  # a layer that cannot run still prints
            rule = self._rule
        fields = {name: getattr(rule, name) for name in rule.__dataclass_fields__}
        calls = {"steps": self.steps} | self._defaults.config()
        found = {name: value for name, value in fields.items() if name in _SHOWN or value != getattr(plain, name)}
        return ", ".join(f"{name}={value!r}" for name, value in (found | calls).items())

    def __repr__(self) -> str:
        """As torch prints a module, but of parts that hold nothing but tensors the shapes of these."""
        parts = (f"({name}): {_shapes_or_repr(part)}" for name, part in self.named_children())
        lines = "\n".join([self.extra_repr(), *parts])
        return f"{self._get_name()}(\n{textwrap.indent(lines, '  ')}\n)"

    def _stepper(self) -> Advance:
        return lambda state, steps, **options: with_kept(self(state, steps, **options))

    def _automaton(self, extra: Tensor | None) -> Automaton:
        rule = self._present_rule()
        return Automaton(rule, self._tensors(rule), lambda *at: self._defaults.extra(extra, *at))

    def _asked(self, steps: Any) -> Steps:
        return self._defaults.asked(steps, self.training)

    def _begun(self, image: Tensor, seed: Tensor, first_sample: int) -> Tensor:
        check_begin(image, self._rule, self._channels().image, "NCA")
        return self._defaults.state(image, self._rule, seed, first_sample)[0]

    def _channels(self) -> Channels:
        rule = self._rule
        end = rule.channels - self._defaults.outputs
        return Channels(slice(0, rule.lo), slice(rule.lo, end), slice(end, rule.channels))

    def _present_rule(self) -> Rule:
        """The rule in the present mode of the module and its norms: running statistics are batch statistics first."""
        rule = self._rule if self.training else self._eval_rule
        return derive(rule, rule.fire_rate, self._layers(described=False))

    def _layers(self, *, described: bool) -> Layers:
        rule, names = self._rule, [layer_name("hidden", n) for n in range(len(self._rule.hidden))]
        norms = zip(self._norm_names(), self._norms(), strict=True)
        return Layers(
            filters=(_holder("perceive", self.perceive),) if rule.has_filters else (),
            hidden=tuple(_holder(name, getattr(self, name), nn.Linear) for name in names),
            norms=tuple(norm(name, layer, rule.ndim, per_cell=True, described=described) for name, layer in norms),
            update=_holder("update", self.update, nn.Linear),
        )

    def _norm_names(self) -> list[str]:
        return [layer_name("norm", n) for n in range(len(self._rule.hidden) if self._rule.norm != "none" else 0)]

    def _norms(self) -> list[nn.Module]:
        return [getattr(self, name) for name in self._norm_names()]

    def _tensors(self, rule: Rule) -> dict[str, Tensor]:
        norms: dict[str, Tensor] = {}
        for number, layer in enumerate(self._norms()):
            norms |= norm_tensors(rule, layer, number)
        found = {}
        for name, shape in rule.param_shapes().items():
            if name in norms:
                found[name] = norms[name]
                continue
            module, leaf = name.rsplit(".", 1)
            holder = getattr(self, module)
            tensor = getattr(holder, leaf, None)
            found[name] = holder.weight.new_zeros(shape) if tensor is None else tensor  # a bias that was taken out
        return found

    def _build(self, rule: Rule, fixed: Tensor | None, zero_init: bool, defaults: Defaults) -> None:
        whole("outputs", defaults.outputs, 0, rule.channels - rule.lo)
        self._defaults = defaults
        self._rule, self._eval_rule = rule, rule.for_eval()
        for name, shape in rule.param_shapes().items():
            module, leaf = name.rsplit(".", 1)
            if module.startswith("norm"):
                continue
            if not hasattr(self, module):
                self.add_module(module, nn.Module())
            holder = getattr(self, module)
            if name == "perceive.weight" and fixed is not None:
                holder.register_buffer(leaf, per_channel(fixed, shape))
            else:
                holder.register_parameter(leaf, nn.Parameter(torch.empty(shape)))
            if name.endswith(".bias") and module.startswith("hidden") and rule.norm != "none":
                self.add_module(f"norm{module.removeprefix('hidden')}", norm_layer(rule, shape[0]))
        self._zero_init = zero_init
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all learned parameters anew: uniform in +-1/sqrt(fan in) as torch's layers, the last layer zero."""
        draw(self.named_parameters(), self.rule, self._zero_init)


def _shapes_or_repr(part: nn.Module) -> str:
    """What `print` shows of a sub-module."""
    if type(part) is not nn.Module:
        return repr(part)
    learned = dict(part.named_parameters())
    return ", ".join(
        f"{name} {list(tensor.shape)}{'' if name in learned else ' fixed'}"
        for name, tensor in (learned | dict(part.named_buffers())).items()
    )


def _holder(name: str, module: Any, *kinds: type[nn.Module]) -> Dense:
    """A sub-module that holds tensors only; or one of `kinds`, whose tensors mean the same."""
    check_call(name, module, nn.Module, *kinds)
    return Dense(name, None, getattr(module, "bias", None) is not None)


_OPTIONS = options_of(NCA.forward, 2)
_ARGUMENTS = tuple(dict.fromkeys((*options_of(NCA.__init__, 1), *options_of(Rule, 0))))
